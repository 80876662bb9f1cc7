//! Prepares what comes next while the device computes.

use crate::error::Result;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

/// Things that are ready before they are asked for.
const AHEAD: usize = 2;

/// Makes `make(n)` for each n of `numbers`, in order and a little ahead, on a thread of its own. Each thing is a
/// function of its number alone, so nothing depends on how far the thread has come. It ends after the last thing, after
/// an error, or when nobody takes them any more.
pub fn prefetch<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    numbers: std::ops::Range<u64>,
    make: impl Fn(u64) -> Result<T> + Send + 'scope,
) -> Receiver<Result<T>> {
    let (give, take) = sync_channel(AHEAD);
    scope.spawn(move || {
        for n in numbers {
            let made = make(n);
            let last = made.is_err();
            if give.send(made).is_err() || last {
                break;
            }
        }
    });
    take
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn things_come_in_order_a_few_ahead_and_end_with_an_error() {
        let made = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let things = prefetch(scope, 3..1000, |n| {
                made.fetch_add(1, Ordering::SeqCst);
                if n < 9 { Ok(n) } else { Err(Error::Usage("no more".to_owned())) }
            });
            assert_eq!(things.recv().unwrap().unwrap(), 3);
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(made.load(Ordering::SeqCst) <= 1 + 1 + AHEAD as u64);
            let rest: Vec<_> = things.iter().collect();
            assert_eq!(rest.len(), 6);
            assert_eq!(rest[4].as_ref().ok(), Some(&8));
            assert!(rest[5].is_err());
        });
        assert_eq!(made.into_inner(), 7);
    }

    #[test]
    fn the_thread_ends_when_nobody_listens() {
        std::thread::scope(|scope| drop(prefetch(scope, 0..u64::MAX, Ok)));
    }
}
