//! A model behind HTTP, by the interface of OpenAI's that clients know.
//!
//! In reading order: `engine` (the thread that owns the model), `http` and `patient` (connections and their limits),
//! `site` (what is at which address), `host` (by which name it is asked), `fields`, `ask` and `messages` (what a client
//! asks for), `answer` (what it gets), `refusal` (or why not), `line` (what is noted of it).
//!
//! Everything that comes by a connection is hostile: it is read within limits of size and time, and refused by a status
//! from 400 on with one sentence.

mod answer;
pub mod ask;
mod engine;
mod fields;
mod host;
mod http;
mod line;
mod messages;
mod patient;
pub mod refusal;
mod site;

pub use host::Hosts;

use crate::chat::Encoder;
use crate::error::{Error, Result};
use crate::generate::Generator;
use crate::input::quoted;
use crate::tokenizer::Tokenizer;
use hyper::StatusCode;
use refusal::Refusal;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

/// The model that is served.
pub struct Served {
    /// What clients call it.
    pub name: String,
    /// Its vocabulary.
    pub tokenizer: Tokenizer,
    /// How it is told conversations, or why it cannot chat.
    pub encoder: std::result::Result<Encoder, String>,
    /// Tokens that end an answer.
    pub ends: Vec<u32>,
    /// Tokens of a sequence, prompt and answer together.
    pub capacity: usize,
    /// When the server began, in seconds since 1970.
    pub created: u64,
    /// By which names it may be asked.
    pub hosts: Hosts,
    /// Whether each request gets a line on standard error.
    pub verbose: bool,
}

/// How much is taken.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sequences under way and waiting.
    pub places: usize,
    /// Bytes of a request's body.
    pub max_body: u64,
}

/// Serves on `listener` until `stop` says so; then no connection is taken any more, and what is under way has some
/// seconds to end.
///
/// # Errors
/// If the device fails, after all who wait were told.
pub fn run(
    generator: Generator,
    served: Served,
    listener: TcpListener,
    limits: Limits,
    stop: impl Fn() -> bool + Send + 'static,
) -> Result<()> {
    let (desk, jobs) = engine::desk(limits.places);
    let site = site::Site::new(served, desk, limits.max_body);
    let failed = Arc::new(AtomicBool::new(false));
    let over = {
        let failed = failed.clone();
        move || stop() || failed.load(Ordering::Acquire)
    };
    let spawned = thread::Builder::new().name("http".to_owned()).spawn(move || http::serve(listener, site, over));
    let http = spawned.map_err(|e| Error::io("the thread of connections", e))?;
    let done = engine::run(generator, jobs);
    failed.store(true, Ordering::Release);
    let ended = http.join().unwrap_or_else(|_| Err(Error::Device("the thread of connections has ended".to_owned())));
    done.and(ended)
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn no_such_model(name: &str, served: &Served) -> Refusal {
    let message = format!("there is no model {}; this server has {}", quoted(name), quoted(&served.name));
    Refusal::new(StatusCode::NOT_FOUND, "model_not_found", message)
}
