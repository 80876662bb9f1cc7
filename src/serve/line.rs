//! What is noted of each request where that is asked for: a line on standard error once it is over.

use crate::terminal::{note, sentence};
use hyper::{Request, StatusCode};
use std::sync::Mutex;
use std::time::Instant;

/// The line of one request, written when it is dropped.
pub struct Line {
    begun: Instant,
    asked: Option<String>,
    came: Mutex<(Option<StatusCode>, String)>,
}

impl Line {
    /// The line of `request`; none is written unless `wanted`.
    pub fn new<B>(request: &Request<B>, wanted: bool) -> Line {
        let asked = wanted.then(|| format!("{} {}", request.method(), request.uri().path()));
        Line { begun: Instant::now(), asked, came: Mutex::new((None, String::new())) }
    }

    /// It was answered with this status.
    pub fn answered(&self, status: StatusCode) {
        self.note(|came| came.0 = Some(status));
    }

    /// What there is to say of it besides.
    pub fn say(&self, text: String) {
        self.note(|came| came.1 = text);
    }

    fn note(&self, change: impl FnOnce(&mut (Option<StatusCode>, String))) {
        change(&mut self.came.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Some(asked) = self.asked.take() else { return };
        let (status, text) = self.came.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        let status = status.map_or("left".to_owned(), |status| status.as_u16().to_string());
        let (seconds, colon) = (self.begun.elapsed().as_secs_f64(), if text.is_empty() { "" } else { ": " });
        note(sentence(format_args!("{asked} {status} {seconds:.3} s{colon}{text}")));
    }
}
