//! Whether the number after the last `####` is the right one, as GSM8K writes answers.
//!
//! A number is a sign or none, digits with commas among them, and perhaps a point with digits; what follows it does not
//! matter. Numbers are compared as they are written, digit by digit, so that no rounding makes two of them equal.

use super::{Reward, Sample, each};
use crate::data::arithmetic::MARK;
use crate::error::Result;

/// 1 for the right number, 0 for another or none.
pub struct Number;

impl Reward for Number {
    fn judge(&mut self, samples: &[Sample]) -> Result<Vec<Option<f64>>> {
        Ok(each(samples, |sample| {
            // A reference may be the bare number.
            let right = |reference: &String| last_marked(reference).or_else(|| number(reference));
            let right = sample.question.reference.as_ref().and_then(right);
            right.is_some() && last_marked(sample.completion) == right
        }))
    }
}

/// A number as sign, whole digits and decimals, without zeros that mean nothing.
#[derive(Debug, PartialEq)]
struct Decimal {
    negative: bool,
    whole: String,
    decimals: String,
}

/// The number after the last mark that has one.
fn last_marked(text: &str) -> Option<Decimal> {
    text.rmatch_indices(MARK).find_map(|(at, _)| number(&text[at + MARK.len()..]))
}

/// The number that `text` begins with.
fn number(text: &str) -> Option<Decimal> {
    let text = text.trim_start();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let length =
        |text: &str, comma: bool| text.bytes().take_while(|b| b.is_ascii_digit() || (comma && *b == b',')).count();
    let (whole, rest) = text.split_at(length(text, true));
    let decimals = rest.strip_prefix('.').map_or("", |rest| &rest[..length(rest, false)]);
    if whole.starts_with(',') || (whole.is_empty() && decimals.is_empty()) {
        return None;
    }
    let whole = whole.replace(',', "").trim_start_matches('0').to_owned();
    let decimals = decimals.trim_end_matches('0').to_owned();
    let negative = negative && !(whole.is_empty() && decimals.is_empty());
    Some(Decimal { negative, whole, decimals })
}

#[cfg(test)]
mod tests {
    use super::super::tests::one;
    use super::Number;

    #[test]
    fn numbers_are_compared_by_value() {
        for (reference, completion, reward) in [
            ("#### 7", "3 + 4 = 7\n#### 7", 1.0),
            ("7", "####7.", 1.0),
            ("7", "7", 0.0),
            ("7", "", 0.0),
            ("7", "####", 0.0),
            ("7", "#### seven", 0.0),
            ("7", "#### 8", 0.0),
            ("7", "#### 70", 0.0),
            ("7", "#### -7", 0.0),
            // The last one wins.
            ("7", "#### 8 #### 7", 1.0),
            ("7", "#### 7 #### 8", 0.0),
            ("7", "#### 7 ####", 1.0),
            ("7", "##### 7", 1.0),
            ("7", "### 7", 0.0),
            // Commas, signs, decimals, zeros.
            ("#### 1,234,567", "#### 1234567", 1.0),
            ("1234", "#### 1,234", 1.0),
            ("1234", "#### 1,235", 0.0),
            ("-3", "#### -3", 1.0),
            ("-3", "#### 3", 0.0),
            ("3", "#### +3", 1.0),
            ("0", "#### -0", 1.0),
            ("2.5", "#### 2.50", 1.0),
            ("2.5", "#### 02.5", 1.0),
            ("2.5", "#### 2.55", 0.0),
            ("2", "#### 2.0", 1.0),
            ("0.5", "#### .5", 1.0),
            ("5", "#### ,5", 0.0),
            // No rounding.
            ("9007199254740993", "#### 9007199254740992", 0.0),
            ("0.1", "#### 0.1000000000000000055511151231257827", 0.0),
            // A reference without a number is never met.
            ("none", "#### none", 0.0),
        ] {
            assert_eq!(one(&mut Number, reference, completion), reward, "{reference:?} {completion:?}");
        }
    }
}
