//! Host memory that values on their way to another thread may take together.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A bound on bytes that are held at a time.
pub(super) struct Room {
    limit: u64,
    used: Mutex<u64>,
    changed: Condvar,
}

/// A part of a [`Room`], which is given back when this is dropped.
pub(super) struct Held {
    room: Arc<Room>,
    bytes: u64,
}

impl Room {
    /// Room for `limit` bytes.
    pub(super) fn new(limit: u64) -> Arc<Room> {
        Arc::new(Room { limit, used: Mutex::new(0), changed: Condvar::new() })
    }

    /// Waits until there is room for `bytes`, or none is used: a single value may be larger than the limit.
    pub(super) fn take(self: &Arc<Self>, bytes: u64) -> Held {
        let full = |used: &mut u64| *used > 0 && used.saturating_add(bytes) > self.limit;
        let mut used = self.changed.wait_while(self.used(), full).unwrap_or_else(PoisonError::into_inner);
        *used += bytes;
        Held { room: self.clone(), bytes }
    }

    fn used(&self) -> MutexGuard<'_, u64> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner) // a number is never half changed
    }
}

impl Held {
    /// How much it is.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.room.used() -= self.bytes;
        self.room.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{TryRecvError, channel};
    use std::time::Duration;

    #[test]
    fn who_finds_no_room_waits_until_some_is_given_back() {
        let room = Room::new(10);
        let (first, second) = (room.take(6), room.take(4));
        let (give, take) = channel();
        let there = room.clone();
        let waiting = std::thread::spawn(move || {
            let held = there.take(5);
            give.send(()).unwrap();
            drop(held);
        });
        drop(second);
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(take.try_recv(), Err(TryRecvError::Empty), "6 and 5 are more than 10");
        drop(first);
        waiting.join().unwrap();
        assert_eq!((take.recv(), *room.used()), (Ok(()), 0));
    }

    #[test]
    fn a_value_larger_than_the_room_goes_through_alone() {
        let room = Room::new(10);
        drop(room.take(1000));
        assert_eq!(*room.used(), 0);
    }
}
