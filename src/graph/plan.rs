//! Memory: which buffer each tensor lives in, decided before anything runs.
//!
//! Tensors that outlive a replay get a buffer each: wgpu tracks whole buffers, so a shared one would serialise what is
//! independent. Activations share a pool: a slot is free again after the last step that uses its tensor. All
//! recordings of a program draw from one pool, since they never run at the same time.

use super::recording::Recording;
use super::tensor::{Dtype, Role, Tensor, Tensors};
use std::collections::HashMap;

/// One buffer to allocate.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Size.
    pub bytes: u64,
    /// Element type of the tensors in it.
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

impl Plan {
    /// Plans the memory of `recordings` over `tensors`. Tensors that no recording and no host transfer needs are those
    /// of role `Activation` without a step: they get none.
    pub fn new(tensors: &Tensors, recordings: &[Recording]) -> Self {
        let mut plan = Plan::default();
        for (tensor, info) in tensors.iter().filter(|(_, info)| info.role != Role::Activation) {
            plan.of.insert(tensor, plan.slots.len());
            plan.slots.push(Slot { bytes: info.bytes().max(4), dtype: info.dtype, role: info.role });
        }
        let mut pool: Vec<usize> = Vec::new();
        for recording in recordings {
            plan.colour(tensors, recording, &mut pool);
        }
        plan
    }

    fn colour(&mut self, tensors: &Tensors, recording: &Recording, pool: &mut Vec<usize>) {
        let mut last_use: HashMap<Tensor, usize> = HashMap::new();
        for (i, step) in recording.steps.iter().enumerate() {
            for &tensor in &step.tensors {
                last_use.insert(tensor, i);
            }
        }
        let mut free: Vec<usize> = pool.clone();
        for (i, step) in recording.steps.iter().enumerate() {
            for &tensor in &step.tensors {
                let info = tensors.info(tensor);
                if info.role == Role::Activation && !self.of.contains_key(&tensor) {
                    let slot = self.take(info.bytes().max(4), info.dtype, &mut free, pool);
                    self.of.insert(tensor, slot);
                }
            }
            let mut ended: Vec<Tensor> = step.tensors.iter().copied().filter(|t| last_use[t] == i).collect();
            ended.sort();
            ended.dedup();
            free.extend(ended.iter().filter(|t| tensors.info(**t).role == Role::Activation).map(|t| self.of[t]));
        }
    }

    /// The smallest free slot that holds `bytes` without wasting half of itself, or a new one.
    fn take(&mut self, bytes: u64, dtype: Dtype, free: &mut Vec<usize>, pool: &mut Vec<usize>) -> usize {
        let fits = |slot: &Slot| slot.dtype == dtype && slot.bytes >= bytes && slot.bytes <= 2 * bytes;
        let best = (0..free.len()).filter(|&i| fits(&self.slots[free[i]])).min_by_key(|&i| self.slots[free[i]].bytes);
        match best {
            Some(i) => free.swap_remove(i),
            None => {
                self.slots.push(Slot { bytes, dtype, role: Role::Activation });
                pool.push(self.slots.len() - 1);
                self.slots.len() - 1
            }
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
