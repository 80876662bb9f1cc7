//! Memory for the copies of the next save, made ready beside training: the system takes several times as long to hand
//! out fresh memory as the device takes to fill it, and training would wait for both.

use super::session::Session;
use crate::backend::available_memory;
use rayon::prelude::*;
use std::sync::mpsc::{Receiver, sync_channel};

/// A number in every page of memory is written; the smallest pages have 4 KiB.
const PAGE: usize = 1024;
/// Numbers that a thread makes ready at a time: one thread alone takes seconds for the memory of a large model.
const PART: usize = 1024 * PAGE;

/// Vectors in the order in which a save asks for them. The default has none: then memory is fresh.
#[derive(Default)]
pub struct Spare {
    ready: Option<Receiver<Vec<f32>>>,
    bytes: u64,
}

impl Spare {
    /// Begins to make memory ready for a save of `session`, beside what else runs; none where less than twice as much
    /// is free.
    pub fn begin(session: &Session) -> Spare {
        let sizes = session.copy_sizes();
        let bytes = sizes.iter().map(|&n| 4 * n as u64).sum();
        match available_memory() {
            Some(free) if bytes <= free / 2 => Spare::of(sizes, bytes),
            _ => Spare::default(),
        }
    }

    fn of(sizes: Vec<usize>, bytes: u64) -> Spare {
        let (give, take) = sync_channel(sizes.len());
        std::thread::spawn(move || {
            // Ends early where nobody will ask any more.
            sizes.into_iter().try_for_each(|n| {
                let mut memory = vec![0.0; n];
                memory.par_chunks_mut(PART).for_each(|part| {
                    part.iter_mut().step_by(PAGE).for_each(|first| *first = f32::NAN); // a copy overwrites all of it
                });
                give.send(memory)
            })
        });
        Spare { ready: Some(take), bytes }
    }

    /// Bytes that a save need not take from what is free.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Memory for `n` numbers, whatever they are now.
    pub(super) fn take(&mut self, n: usize) -> Vec<f32> {
        let next = self.ready.as_ref().and_then(|ready| ready.recv().ok());
        match next.filter(|memory| memory.len() == n) {
            Some(memory) => memory,
            None => vec![0.0; n], // its memory comes when the copies write it
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_ready_in_the_order_of_a_save_and_fresh_otherwise() {
        let mut spare = Spare::of(vec![3, 2000, 7], 0);
        assert!(spare.take(3)[0].is_nan());
        let pages = spare.take(2000);
        assert!(pages[0].is_nan() && pages[PAGE].is_nan());
        assert_eq!(spare.take(5), [0.0; 5], "of another size");
        assert_eq!(spare.take(7), [0.0; 7], "none is left");
    }
}
