//! Memory: which buffer each tensor lives in, decided before anything runs.
//!
//! Tensors that outlive a replay get a buffer each: wgpu tracks whole buffers, so a shared one would serialise what is
//! independent. Activations share a pool: each lives from the first step that uses it to the last, and a buffer holds
//! those whose lives do not meet. The largest choose first, so that a buffer is as large as its first tensor and later
//! ones fill the times in between. All recordings of a program draw from one pool, since they never run at the same
//! time.

use super::recording::Recording;
use super::tensor::{Dtype, Role, Tensor, Tensors};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// One buffer to allocate.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Size.
    pub bytes: u64,
    /// Element type of the tensors in it; the narrowest where activations of f32 and f16 take turns.
    pub dtype: Dtype,
    /// Role of the tensors in it.
    pub role: Role,
}

/// Buffers and the tensors in them.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Buffers to allocate.
    pub slots: Vec<Slot>,
    of: HashMap<Tensor, usize>,
}

/// A shared buffer while tensors are placed in it.
struct Shared {
    slot: usize,
    /// Last step of each life in it, by first step.
    lives: BTreeMap<usize, usize>,
}

impl Shared {
    /// Whether nothing lives here from step `first` to step `last`.
    fn is_free(&self, first: usize, last: usize) -> bool {
        self.lives.range(..=last).next_back().is_none_or(|(_, &end)| end < first)
    }
}

impl Plan {
    /// Plans the memory of `recordings` over `tensors`. Tensors that no recording and no host transfer needs are those
    /// of role `Activation` without a step: they get none.
    pub fn new(tensors: &Tensors, recordings: &[Recording]) -> Self {
        let mut plan = Plan::default();
        for (tensor, info) in tensors.iter().filter(|(_, info)| info.role != Role::Activation) {
            plan.of.insert(tensor, plan.slots.len());
            plan.slots.push(Slot { bytes: info.bytes().max(4), dtype: info.dtype, role: info.role });
        }
        plan.share(tensors, recordings);
        plan
    }

    fn share(&mut self, tensors: &Tensors, recordings: &[Recording]) {
        // One count of steps for all recordings: two never run at once. A tensor lives once in each that uses it.
        let mut lives: HashMap<Tensor, BTreeMap<usize, (usize, usize)>> = HashMap::new();
        let mut i = 0;
        for (number, recording) in recordings.iter().enumerate() {
            for step in &recording.steps {
                for &tensor in step.tensors.iter().filter(|&&t| tensors.info(t).role == Role::Activation) {
                    lives.entry(tensor).or_default().entry(number).or_insert((i, i)).1 = i;
                }
                i += 1;
            }
        }
        let mut lives: Vec<_> = lives.into_iter().collect();
        let first = |lives: &BTreeMap<usize, (usize, usize)>| lives.values().next().copied();
        lives.sort_by_key(|(tensor, lives)| (Reverse(tensors.info(*tensor).bytes()), first(lives), *tensor));
        let mut pool: Vec<Shared> = Vec::new();
        for (tensor, lives) in lives {
            let (bytes, dtype) = (tensors.info(tensor).bytes().max(4), tensors.info(tensor).dtype);
            let alike = |slot: usize| (self.slots[slot].dtype == Dtype::U32) == (dtype == Dtype::U32);
            let is_free = |shared: &Shared| lives.values().all(|&(first, last)| shared.is_free(first, last));
            let free = (0..pool.len()).filter(|&i| alike(pool[i].slot) && is_free(&pool[i]));
            let at = free.min_by_key(|&i| self.slots[pool[i].slot].bytes).unwrap_or_else(|| {
                self.slots.push(Slot { bytes, dtype, role: Role::Activation });
                pool.push(Shared { slot: self.slots.len() - 1, lives: BTreeMap::new() });
                pool.len() - 1
            });
            pool[at].lives.extend(lives.values().copied());
            let slot = &mut self.slots[pool[at].slot];
            if dtype.bytes() < slot.dtype.bytes() {
                slot.dtype = dtype;
            }
            self.of.insert(tensor, pool[at].slot);
        }
    }

    /// The buffer that `tensor` lives in; `None` if no step uses it.
    pub fn slot(&self, tensor: Tensor) -> Option<usize> {
        self.of.get(&tensor).copied()
    }

    /// Bytes of all buffers of a role.
    pub fn bytes_of(&self, role: Role) -> u64 {
        self.slots.iter().filter(|slot| slot.role == role).map(|slot| slot.bytes).sum()
    }

    /// Bytes of all buffers.
    pub fn bytes(&self) -> u64 {
        self.slots.iter().map(|slot| slot.bytes).sum()
    }

    /// The largest buffer.
    pub fn largest(&self) -> u64 {
        self.slots.iter().map(|slot| slot.bytes).max().unwrap_or(0)
    }
}
