//! Saves beside training: all numbers are copied from the device while training waits, and a thread of its own writes
//! them to the disk while training goes on. Where memory for the copies is short, training waits for the disk instead.

use super::moments;
use super::outline::{Numbers, Outline, write};
use super::room::{Held, Room};
use super::session::Session;
use super::spare::Spare;
use crate::backend::available_memory;
use crate::checkpoint::draft::Disk;
use crate::error::{Error, Result};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Memory for copies where the system does not tell how much is free.
const ROOM: u64 = 2 << 30;

/// A checkpoint on its way to the disk. Dropped, it is waited for.
pub struct Saving {
    /// Updates that it holds.
    pub step: u64,
    /// Length of its numbers.
    pub bytes: u64,
    /// How long training waited for the copies.
    pub waited: Duration,
    written: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<(PathBuf, Duration)>>>,
}

impl Saving {
    /// Copies what `outline` announces from the device into `spare` memory and begins to write it. `sealed` runs on the
    /// writing thread once the checkpoint is complete and has its name.
    ///
    /// Errors: the disk has no room for it; the device failed, in which case nothing is left of it.
    pub fn begin(
        disk: Arc<dyn Disk>,
        outline: Outline,
        session: &mut Session,
        spare: Spare,
        sealed: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<Saving> {
        let (step, bytes, started) = (outline.state.step, outline.bytes(), Instant::now());
        outline.check_room(&*disk)?;
        let outline = Arc::new(outline);
        let (give, take) = channel::<(Numbers, Held)>();
        let written = Arc::new(AtomicU64::new(0));
        let (counter, contents) = (written.clone(), outline.clone());
        let thread = std::thread::spawn(move || {
            let mut held: Option<Held> = None; // given back when the next numbers are asked for
            let folder = write(&*disk, &contents, || {
                if let Some(done) = held.take() {
                    counter.fetch_add(done.bytes(), Ordering::Relaxed);
                }
                let (numbers, next) = take.recv().map_err(|_| Error::device("a checkpoint's copies broke off"))?;
                held = Some(next);
                Ok(numbers)
            })?;
            sealed()?;
            Ok((folder, started.elapsed()))
        });
        let mut saving = Saving { step, bytes, waited: Duration::ZERO, written, thread: Some(thread) };
        let room = Room::new(available_memory().map_or(ROOM, |free| (free + spare.bytes()) / 2));
        session.lend(spare);
        let copied = copy(session, &outline, &room, &give);
        session.lend(Spare::default());
        drop(give); // the thread ends, with an error where copies are missing, and is waited for before that is dropped
        copied?;
        saving.waited = started.elapsed();
        Ok(saving)
    }

    /// Whether [`Saving::finish`] would not wait.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Share of its bytes that are written.
    pub fn progress(&self) -> f64 {
        self.written.load(Ordering::Relaxed) as f64 / self.bytes.max(1) as f64
    }

    /// Waits until everything is on the disk; gives the folder, and the time since the beginning.
    ///
    /// Errors: it could not be written, and what there is of it is removed again.
    pub fn finish(mut self) -> Result<(PathBuf, Duration)> {
        let Some(thread) = self.thread.take() else { return Err(Error::device("a save was waited for twice")) };
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // another error is on its way, and is the one to report
        }
    }
}

/// Sends all numbers in the order in which they are written, until they are refused: then the writer says why.
fn copy(session: &mut Session, outline: &Outline, room: &Arc<Room>, give: &Sender<(Numbers, Held)>) -> Result<()> {
    let (weights, moments) = (session.program.weights.kept(), moments::trained(session));
    for (at, i) in weights.into_iter().enumerate() {
        let held = room.take(outline.weight_bytes(at));
        if give.send((Numbers::Weight(session.parameter(i)?), held)).is_err() {
            return Ok(());
        }
    }
    for (at, i) in moments.into_iter().enumerate() {
        let held = room.take(outline.moment_bytes(at));
        if give.send((Numbers::Moments(session.moments(i)?), held)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
