//! The probability of a text, found by trying every choice that a story could make.
//!
//! It knows nothing of the account that the teller keeps, sums over all ways to the same text, and so is the judge of
//! that account. It is slow (milliseconds a story): for tests and for what stories the account cannot speak of.

use super::lexicon::Lexicon;
use super::plot;
use super::teller::Chooser;

/// Follows a script of choices, then always takes the first possible; stops caring once the text has gone astray.
struct Script<'t> {
    target: &'t str,
    prefix: bool,
    /// The options of each choice made, which of them was taken, and the probability of all choices up to it.
    path: Vec<(Vec<u32>, usize, f64)>,
    /// Choices made so far.
    depth: usize,
    /// Choices made when the text was first seen to differ from the target, or to contain it.
    verdict: Option<(usize, bool)>,
}

impl Chooser for Script<'_> {
    fn choose(&mut self, weights: &[u32], so_far: &str) -> usize {
        self.judge(so_far);
        if self.verdict.is_some() {
            return first_from(weights, 0).unwrap_or(0);
        }
        if self.depth == self.path.len() {
            let first = first_from(weights, 0).unwrap_or(0);
            self.path.push((weights.to_vec(), first, 0.0));
        }
        let before = self.depth.checked_sub(1).map_or(1.0, |i| self.path[i].2);
        let (options, taken, probability) = &mut self.path[self.depth];
        let total: f64 = options.iter().map(|&w| f64::from(w)).sum();
        *probability = before * f64::from(options[*taken]) / total;
        self.depth += 1;
        *taken
    }
}

impl Script<'_> {
    /// Decides, if it can be decided, whether the choices so far lead to the target.
    fn judge(&mut self, so_far: &str) {
        if self.verdict.is_some() {
            return;
        }
        if self.prefix && so_far.starts_with(self.target) {
            self.verdict = Some((self.depth, true));
        } else if !self.target.starts_with(so_far) {
            self.verdict = Some((self.depth, false));
        }
    }

    /// Goes on to the next script, past the verdict on this one; false after the last.
    fn advance(&mut self, depth: usize) -> bool {
        self.path.truncate(depth);
        while let Some((options, taken, _)) = self.path.last_mut() {
            if let Some(next) = first_from(options, *taken + 1) {
                *taken = next;
                return true;
            }
            self.path.pop();
        }
        false
    }
}

/// The first possible option from number `from` on.
fn first_from(weights: &[u32], from: usize) -> Option<usize> {
    (from..weights.len()).find(|&i| weights[i] > 0)
}

/// Nats of the event that a story is `text`, or begins with it if `prefix`; none if it is impossible.
pub fn nll(lexicon: &'static Lexicon, text: &str, prefix: bool) -> Option<f64> {
    let mut script = Script { target: text, prefix, path: vec![], depth: 0, verdict: None };
    let mut sum = 0.0;
    loop {
        script.depth = 0;
        script.verdict = None;
        let told = plot::tell(lexicon, &mut script).text;
        let finished = (script.depth, told == text || (prefix && told.starts_with(text)));
        let (depth, right) = script.verdict.unwrap_or(finished);
        if right {
            sum += depth.checked_sub(1).map_or(1.0, |i| script.path[i].2);
        }
        if !script.advance(depth) {
            return (sum > 0.0).then(|| -sum.ln());
        }
    }
}
