//! Two answers to one prompt, of which the first is preferred.
//!
//! A record has the prompt apart, or both answers begin with it. By TRL's rule the prompt is then all that they have in
//! common: of texts the characters, without a space at their end, which belongs to the answer; of conversations the
//! messages, all but the last of the shorter one at most.

use super::conversation::{check, of};
use super::{Encoded, Encoder};
use crate::data::record::{Content, Record, Role, Turn};

/// Two answers to one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// What is answered.
    pub prompt: Vec<Turn>,
    /// The better answer; it begins with a message of the assistant.
    pub chosen: Vec<Turn>,
    /// The worse one, likewise.
    pub rejected: Vec<Turn>,
    /// By how much the better one should be ahead, where that is said.
    pub margin: Option<f64>,
}

/// A pair as tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EncodedPair {
    /// The prompt with the better answer, whose tokens alone count.
    pub chosen: Encoded,
    /// The prompt with the worse one, likewise.
    pub rejected: Encoded,
    /// By how much the better one should be ahead; 0 where that is not said.
    pub margin: f64,
    /// Whether an answer or both were cut.
    pub cut: bool,
}

impl Pair {
    /// The pair of a record.
    ///
    /// # Errors
    /// If it is no preference, its answers do not follow a prompt, or roles are in an order that no conversation has;
    /// in words that follow the number of its line.
    pub fn new(record: Record) -> Result<Pair, String> {
        let Record::Preference { prompt, chosen, rejected, margin } = record else {
            return Err("has no \"chosen\" and \"rejected\", so nothing is preferred".to_owned());
        };
        if let Some(margin) = margin.filter(|margin| !(*margin as f32).is_finite()) {
            return Err(format!("has {margin:e} under \"margin\", more than a loss can be"));
        }
        let (prompt, chosen, rejected) = match prompt {
            Some(prompt) => (of(prompt, Role::User), of(chosen, Role::Assistant), of(rejected, Role::Assistant)),
            None => common(chosen, rejected),
        };
        if prompt.is_empty() {
            let reason = "has no prompt: \"chosen\" and \"rejected\" begin differently; add one under \"prompt\"";
            return Err(reason.to_owned());
        }
        for (key, answer) in [("chosen", &chosen), ("rejected", &rejected)] {
            let first = answer.first().map_or(Role::System, |turn| turn.role);
            if first != Role::Assistant {
                let role = first.name();
                return Err(format!("has under {key:?} an answer that begins with a message of {role}, not assistant"));
            }
            if answer.iter().any(|turn| !turn.learnt) {
                return Err(format!(
                    "has under {key:?} a message that is not to be learnt, but an answer counts whole"
                ));
            }
            check(&[prompt.as_slice(), answer].concat()).map_err(|e| format!("{e} (under {key:?})"))?;
        }
        Ok(Pair { prompt, chosen, rejected, margin })
    }

    /// The pair's tokens, each answer with its prompt cut on the right to `most` of them, which is TRL's `keep_start`.
    /// What the assistant says in an answer counts, and the token that ends it; nothing of the prompt does. None if
    /// of an answer nothing is left that counts, or both are the same: there is nothing to prefer.
    ///
    /// # Errors
    /// What is wrong with the chat template for it, in words that follow its name.
    pub fn encode(&self, encoder: &Encoder, most: usize) -> Result<Option<EncodedPair>, String> {
        let mut cut = false;
        let mut one = |answer: &[Turn]| {
            let mut encoded = encoder.encode_from(&[&self.prompt, answer].concat(), self.prompt.len())?;
            cut |= encoded.counted.iter().skip(most).any(|&counted| counted);
            encoder.cut(&mut encoded, most);
            Ok::<Encoded, String>(encoded)
        };
        let (chosen, rejected) = (one(&self.chosen)?, one(&self.rejected)?);
        let usable = chosen.targets() > 0 && rejected.targets() > 0 && chosen.ids != rejected.ids;
        Ok(usable.then_some(EncodedPair { chosen, rejected, margin: self.margin.unwrap_or(0.0), cut }))
    }
}

/// Prompt and answers of two contents of one kind that begin with the prompt.
fn common(chosen: Content, rejected: Content) -> (Vec<Turn>, Vec<Turn>, Vec<Turn>) {
    match (chosen, rejected) {
        (Content::Turns(mut chosen), Content::Turns(mut rejected)) => {
            let most = chosen.len().min(rejected.len()).saturating_sub(1);
            let same = chosen.iter().zip(&rejected).take(most).take_while(|(a, b)| a == b).count();
            let answer = chosen.split_off(same);
            (chosen, answer, rejected.split_off(same))
        }
        (Content::Text(chosen), Content::Text(rejected)) => {
            let same = chosen.chars().zip(rejected.chars()).take_while(|(a, b)| a == b);
            let same: usize = same.map(|(c, _)| c.len_utf8()).sum();
            let prompt = chosen[..same].strip_suffix(' ').unwrap_or(&chosen[..same]);
            let answer = |text: &str| of(Content::Text(text[prompt.len()..].to_owned()), Role::Assistant);
            let asked = (!prompt.is_empty()).then(|| of(Content::Text(prompt.to_owned()), Role::User));
            (asked.unwrap_or_default(), answer(&chosen), answer(&rejected))
        }
        // A record's answers are of one kind.
        (chosen, rejected) => (Vec::new(), of(chosen, Role::Assistant), of(rejected, Role::Assistant)),
    }
}
