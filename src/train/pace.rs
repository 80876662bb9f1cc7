//! How fast a run goes.

use std::collections::VecDeque;
use std::time::Instant;

/// Tokens a second over the last updates. Results arrive in bursts, so the time between two of them says little.
#[derive(Default)]
pub(super) struct Pace {
    marks: VecDeque<(Instant, u64)>,
}

impl Pace {
    /// Updates that the rate is averaged over.
    const UPDATES: usize = 16;

    /// Time before now does not count: it went into something other than training.
    pub(super) fn restart(&mut self, tokens: u64) {
        self.marks.clear();
        self.marks.push_back((Instant::now(), tokens));
    }

    /// Notes that `tokens` in all are trained on by now.
    pub(super) fn rate(&mut self, tokens: u64) -> f64 {
        let now = Instant::now();
        self.marks.push_back((now, tokens));
        if self.marks.len() > Self::UPDATES + 1 {
            self.marks.pop_front();
        }
        let (then, before) = self.marks[0];
        tokens.saturating_sub(before) as f64 / now.duration_since(then).as_secs_f64().max(1e-9)
    }
}
