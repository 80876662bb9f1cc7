//! Submitting work and waiting for it, so that a device that is lost or hangs ends in an error and nothing else.

use super::device::Gpu;
use crate::error::{Error, Result};
use crate::quiet::quietly;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Time in which a device must finish at least one submission, or it is taken to hang. A submission has at most 128
/// dispatches (`executor::DISPATCHES_A_SUBMISSION`) that are cut to last 0.2 s on a small card (`kernels::work`): 26 s,
/// of which this is more than twenty times. Where a dispatch lasts 2 s, Windows ends the program by itself.
pub const STALL_LIMIT: Duration = Duration::from_secs(600);
/// What a software adapter gets instead. No watchdog looks after it, and a dispatch that a card does in 0.2 s takes it
/// half a minute: it is slow long before it hangs.
pub const SOFTWARE_STALL_LIMIT: Duration = Duration::from_secs(7200);

/// Number of submissions that a device has finished.
#[derive(Clone, Debug, Default)]
pub struct Finished(Arc<AtomicU64>);

impl Finished {
    fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// What became of waiting for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    /// The work is done.
    Done,
    /// Time is up, and it is not.
    TimeUp,
}

/// Waits in turns until the work is done, as long as each turn sees something finished. `turn` waits for one stall
/// limit at most. Gives `TimeUp` after a turn in which nothing was.
fn outlast(finished: impl Fn() -> u64, mut turn: impl FnMut() -> Result<Waited>) -> Result<Waited> {
    loop {
        let before = finished();
        match turn()? {
            Waited::Done => return Ok(Waited::Done),
            Waited::TimeUp if finished() == before => return Ok(Waited::TimeUp),
            Waited::TimeUp => {}
        }
    }
}

impl Gpu {
    /// Hands work to the device. Where it is lost, nothing happens here; whoever waits for the work is told.
    pub fn submit(&self, commands: wgpu::CommandBuffer) -> wgpu::SubmissionIndex {
        let submission = self.queue.submit([commands]);
        let finished = self.finished.clone();
        self.queue.on_submitted_work_done(move || {
            finished.0.fetch_add(1, Ordering::AcqRel);
        });
        submission
    }

    /// Lets wgpu notice what is finished, without waiting.
    pub fn poll(&self) -> Result<()> {
        self.turn(wgpu::PollType::Poll).map(drop)
    }

    /// Waits until all submitted work is done.
    pub fn wait(&self) -> Result<()> {
        self.wait_at_most(None, self.stall_limit())
    }

    /// Waits until `submission` is done.
    pub fn wait_for(&self, submission: &wgpu::SubmissionIndex) -> Result<()> {
        self.wait_at_most(Some(submission), self.stall_limit())
    }

    /// Waits until `submission`, or all work, is done, as long as one submission or more is finished in each `limit`.
    ///
    /// Errors: the device is lost; it hangs. One that hangs is never freed: that would wait for it.
    pub fn wait_at_most(&self, submission: Option<&wgpu::SubmissionIndex>, limit: Duration) -> Result<()> {
        let turn = || self.turn(wgpu::PollType::Wait { submission_index: submission.cloned(), timeout: Some(limit) });
        match outlast(|| self.finished.count(), turn)? {
            Waited::Done => Ok(()),
            Waited::TimeUp => {
                std::mem::forget((self.device.clone(), self.queue.clone()));
                let reason = format!("has finished nothing in {} s: it hangs", limit.as_secs_f64());
                Err(Error::Device(format!("{} {reason}", self.summary.name)))
            }
        }
    }

    fn stall_limit(&self) -> Duration {
        if self.summary.is_software() { SOFTWARE_STALL_LIMIT } else { STALL_LIMIT }
    }

    /// One call of wgpu, which panics where the driver says that the device is lost.
    fn turn(&self, poll: wgpu::PollType) -> Result<Waited> {
        let polled = quietly(|| self.device.poll(poll));
        self.check()?;
        let failed = |reason: String| Error::device(format!("{}: {reason}", self.summary.name));
        match polled.map_err(failed)? {
            Ok(_) => Ok(Waited::Done),
            Err(wgpu::PollError::Timeout) => Ok(Waited::TimeUp),
            Err(e) => Err(failed(e.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits for work of which turn number `i` finishes `progress[i]` submissions and is done after the last.
    fn waited(progress: &[u64]) -> (Waited, usize) {
        let (finished, mut turns) = (Finished::default(), 0);
        let outcome = outlast(
            || finished.count(),
            || {
                finished.0.fetch_add(progress[turns], Ordering::AcqRel);
                turns += 1;
                Ok(if turns == progress.len() { Waited::Done } else { Waited::TimeUp })
            },
        );
        (outcome.unwrap(), turns)
    }

    #[test]
    fn slow_work_is_waited_for_while_it_moves_and_given_up_when_it_does_not() {
        assert_eq!(waited(&[0]), (Waited::Done, 1));
        assert_eq!(waited(&[1, 5, 1, 0]), (Waited::Done, 4));
        assert_eq!(waited(&[1, 5, 0, 9]), (Waited::TimeUp, 3));
        assert_eq!(waited(&[0, 9]), (Waited::TimeUp, 1));
    }

    #[test]
    fn an_error_ends_the_wait() {
        let error = outlast(|| 0, || Err(Error::Device("lost".to_owned()))).unwrap_err();
        assert_eq!(error.exit_code(), 4);
    }
}
