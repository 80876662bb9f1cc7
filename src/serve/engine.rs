//! The thread that owns the model, and how the others ask it: jobs go in by a channel, what comes of them goes out by a
//! channel of each. Sequences come and go while others are under way.

use crate::error::Result;
use crate::generate::{Event, Finish, Generator, Request};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Something that a sequence got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A token.
    Token(u32),
    /// Its end.
    Done(Finish),
    /// Nothing more, for this reason.
    Failed(String),
}

/// What a sequence got, and its number among those of its job.
pub type Reply = (usize, What);

/// Sequences that somebody waits for.
struct Job {
    sequences: Vec<(Request, Live)>,
}

/// A sequence, wherever it is.
struct Live {
    index: usize,
    replies: UnboundedSender<Reply>,
    /// Nobody waits for it any longer.
    cancelled: Arc<AtomicBool>,
    place: Place,
}

impl Live {
    fn tell(&self, what: What) {
        // Whoever does not listen has gone, and the sequence is cancelled.
        let _ = self.replies.send((self.index, what));
    }

    /// Tells the last that there is. The place is free before anybody hears of it: who then asks for more is not told
    /// that all are taken.
    fn end(self, what: What) {
        let Live { index, replies, place, .. } = self;
        drop(place);
        let _ = replies.send((index, what));
    }
}

/// One of the places for sequences, given back when it is dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Why a job is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// All places are taken.
    Full,
    /// The engine has ended.
    Ended,
}

/// The other end of a job. Dropped, it cancels what is not done.
pub struct Replies {
    /// What the sequences got, as it comes.
    pub receiver: UnboundedReceiver<Reply>,
    cancelled: Vec<Arc<AtomicBool>>,
}

impl Replies {
    /// Nothing more is wanted of this sequence.
    pub fn cancel(&self, index: usize) {
        self.cancelled[index].store(true, Ordering::Release);
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.cancelled.iter().for_each(|cancelled| cancelled.store(true, Ordering::Release));
    }
}

/// Where jobs are handed in.
pub struct Desk {
    jobs: Sender<Job>,
    taken: Arc<AtomicUsize>,
    places: usize,
}

/// The engine's end of the channel of jobs.
pub struct Jobs(Receiver<Job>);

/// A desk for an engine with this many places for sequences, under way or waiting.
pub fn desk(places: usize) -> (Desk, Jobs) {
    let (sender, receiver) = channel();
    (Desk { jobs: sender, taken: Arc::default(), places }, Jobs(receiver))
}

impl Desk {
    /// Sequences under way or waiting at most.
    pub fn places(&self) -> usize {
        self.places
    }

    /// Sequences under way or waiting.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }

    /// Hands in requests, all or none.
    pub fn submit(&self, requests: Vec<Request>) -> std::result::Result<Replies, Busy> {
        let more = |taken: usize| Some(taken + requests.len()).filter(|&taken| taken <= self.places);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).map_err(|_| Busy::Full)?;
        let (replies, receiver) = unbounded_channel();
        let cancelled: Vec<Arc<AtomicBool>> = requests.iter().map(|_| Arc::default()).collect();
        let live = |index: usize| Live {
            index,
            replies: replies.clone(),
            cancelled: cancelled[index].clone(),
            place: Place(self.taken.clone()),
        };
        let sequences = requests.into_iter().enumerate().map(|(index, request)| (request, live(index))).collect();
        self.jobs.send(Job { sequences }).map_err(|_| Busy::Ended)?;
        Ok(Replies { receiver, cancelled })
    }
}

/// Does the jobs until nobody can hand in more.
///
/// # Errors
/// If the device fails, which all who wait are told as well.
pub fn run(mut generator: Generator, jobs: Jobs) -> Result<()> {
    let mut live = HashMap::new();
    loop {
        if generator.is_idle() {
            let Ok(job) = jobs.0.recv() else { return Ok(()) };
            take(&mut generator, &mut live, job);
        }
        while let Ok(job) = jobs.0.try_recv() {
            take(&mut generator, &mut live, job);
        }
        live.retain(|&number, sequence: &mut Live| {
            let wanted = !sequence.cancelled.load(Ordering::Acquire);
            if !wanted {
                generator.cancel(number);
            }
            wanted
        });
        match generator.advance() {
            Ok(events) => events.into_iter().for_each(|event| tell(&mut live, event)),
            Err(error) => {
                live.values().for_each(|sequence| sequence.tell(What::Failed(error.to_string())));
                return Err(error);
            }
        }
    }
}

fn take(generator: &mut Generator, live: &mut HashMap<u64, Live>, job: Job) {
    for (request, sequence) in job.sequences {
        match generator.submit(request) {
            Ok(number) => drop(live.insert(number, sequence)),
            Err(error) => sequence.end(What::Failed(error.to_string())),
        }
    }
}

fn tell(live: &mut HashMap<u64, Live>, event: Event) {
    let number = event.number();
    match event {
        Event::Token { token, .. } => {
            live.get(&number).into_iter().for_each(|sequence| sequence.tell(What::Token(token)));
        }
        Event::Done { finish, .. } => {
            live.remove(&number).into_iter().for_each(|sequence| sequence.end(What::Done(finish)));
        }
    }
}
