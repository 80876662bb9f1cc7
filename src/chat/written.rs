//! A conversation as text, with what is the template's and what the messages say told apart.

use crate::data::record::Turn;
use std::collections::BTreeSet;
use std::ops::Range;

/// Stands before and after the number of a message in place of its content: no text has these characters, which stay
/// unassigned for ever.
pub const PLACEHOLDER: [char; 2] = ['\u{10fffe}', '\u{10ffff}'];
/// Stands before and after what a template says that the assistant generates.
pub const GENERATED: [char; 2] = ['\u{ffffe}', '\u{fffff}'];

/// Ways to read a text that are looked at beside each other.
const WAYS: usize = 64;

/// A conversation as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The text.
    pub text: String,
    /// Numbers of messages in the order of their contents in the text, and where these stand.
    pub contents: Vec<(usize, Range<usize>)>,
    /// What the template says that the assistant generates.
    pub generated: Vec<Range<usize>>,
}

impl Written {
    /// What stands before the content of a message, back to the content before it; none if it is not there.
    pub fn frame(&self, message: usize) -> Option<&str> {
        let place = self.contents.iter().position(|(number, _)| *number == message)?;
        let start = place.checked_sub(1).map_or(0, |before| self.contents[before].1.end);
        Some(&self.text[start..self.contents[place].1.start])
    }
}

/// What a template writes around contents: a frame before each of them and one after all.
pub struct Skeleton {
    /// The frames, one more than contents.
    pub frames: Vec<String>,
    /// The messages between them.
    order: Vec<usize>,
}

impl Skeleton {
    /// The frames of `text`, in which the messages that are `placed` stand as placeholders.
    ///
    /// # Errors
    /// If not each of them stands there once.
    pub fn read(text: &str, placed: &[bool]) -> Result<Skeleton, String> {
        let [before, after] = PLACEHOLDER;
        let mut parts = text.split(before);
        let mut frames = vec![parts.next().unwrap_or_default().to_owned()];
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for part in parts {
            let number = part.split_once(after).and_then(|(number, frame)| Some((number.parse().ok()?, frame)));
            let Some((number, frame)) = number.filter(|(number, _)| *number < placed.len()) else {
                return Err("takes what messages say apart".to_owned());
            };
            if !seen.insert(number) {
                return Err(format!("gives message {} back more than once", number + 1));
            }
            order.push(number);
            frames.push(frame.to_owned());
        }
        let lacking = (0..placed.len()).find(|number| placed[*number] && !seen.contains(number));
        match lacking {
            Some(number) => Err(format!("does not give message {} back", number + 1)),
            None if frames.iter().any(|frame| frame.contains(after)) => Err("takes what messages say apart".to_owned()),
            None => Ok(Skeleton { frames, order }),
        }
    }

    /// The conversation `turns`, which its template writes as `text`. A content may be trimmed.
    ///
    /// # Errors
    /// The number of a message that the text has otherwise.
    pub fn fit(&self, turns: &[Turn], text: &str) -> Result<Written, usize> {
        let Some(rest) = text.strip_prefix(self.frames[0].as_str()) else {
            return Err(self.order.first().copied().unwrap_or_default());
        };
        // Ways to read the text up to here: where each ends, the way that it goes on from, and the content it took.
        let mut ways: Vec<Vec<(usize, usize, &str)>> = vec![vec![(text.len() - rest.len(), 0, "")]];
        for (i, &number) in self.order.iter().enumerate() {
            let frame = &self.frames[i + 1];
            let mut next: Vec<(usize, usize, &str)> = Vec::new();
            for (from, &(at, _, _)) in ways[i].iter().enumerate() {
                for content in trimmed(&turns[number].content) {
                    let end = text[at..].strip_prefix(content).and_then(|rest| rest.strip_prefix(frame.as_str()));
                    let Some(end) = end.map(|rest| text.len() - rest.len()) else { continue };
                    let last = i + 1 == self.order.len();
                    if (!last || end == text.len()) && next.len() < WAYS && next.iter().all(|way| way.0 != end) {
                        next.push((end, from, content));
                    }
                }
            }
            if next.is_empty() {
                return Err(number);
            }
            ways.push(next);
        }
        let mut contents = vec![""; self.order.len()];
        let mut way = 0;
        for i in (0..self.order.len()).rev() {
            let (_, from, content) = ways[i + 1][way];
            (contents[i], way) = (content, from);
        }
        if self.order.is_empty() && !rest.is_empty() {
            return Err(0);
        }
        Ok(self.written(&contents))
    }

    fn written(&self, contents: &[&str]) -> Written {
        let mut written = Written::default();
        let mut open = Vec::new();
        let [begin, end] = GENERATED;
        for (i, frame) in self.frames.iter().enumerate() {
            if let Some(content) = i.checked_sub(1).map(|before| contents[before]) {
                let start = written.text.len();
                written.text.push_str(content);
                written.contents.push((self.order[i - 1], start..written.text.len()));
            }
            for c in frame.chars() {
                match c {
                    c if c == begin => open.push(written.text.len()),
                    c if c == end => written.generated.extend(open.pop().map(|start| start..written.text.len())),
                    c => written.text.push(c),
                }
            }
        }
        written
    }
}

/// What trimming may make of a content: itself, and less.
fn trimmed(content: &str) -> Vec<&str> {
    let feed = ['\n'];
    let mut ways = vec![
        content,
        content.trim(),
        content.trim_end(),
        content.trim_start(),
        content.trim_matches(feed),
        content.trim_end_matches(feed),
        content.trim_start_matches(feed),
    ];
    let mut seen = BTreeSet::new();
    ways.retain(|way| seen.insert((way.as_ptr() as usize, way.len())));
    ways
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::record::Role;

    #[test]
    fn contents_are_found_trimmed_or_not_and_the_one_that_is_changed_is_told() {
        let turn = |content: &str| Turn::new(Role::User, content);
        let turns = [turn(" a "), turn("b\n"), turn("\n c ")];
        let [before, after] = PLACEHOLDER;
        let [begin, end] = GENERATED;
        let text = format!("<{before}0{after}> {before}2{after}{begin}, {before}1{after}{end}.");
        let skeleton = Skeleton::read(&text, &[true; 3]).unwrap();
        let real = |a: &str, b: &str, c: &str| format!("<{a}> {c}{begin}, {b}{end}.");
        let written = skeleton.fit(&turns, &real(" a ", "b", " c ")).unwrap();
        assert_eq!(written.text, "< a >  c , b.");
        assert_eq!(written.contents, [(0, 1..4), (2, 6..9), (1, 11..12)]);
        assert_eq!(written.generated, std::slice::from_ref(&(9..12)));
        assert_eq!(skeleton.fit(&turns, &real(" a ", "B", "c")), Err(1));
        assert_eq!(skeleton.fit(&turns, &real(" a ", "b\n", "d")), Err(2));
        for (text, words) in [("", "does not give"), ("0 1 2", "does not give"), ("0 1 2 1", "more than once")] {
            let text: Vec<String> = text.split_whitespace().map(|n| format!("{before}{n}{after}")).collect();
            let words = if text.len() == 3 { "" } else { words };
            assert!(Skeleton::read(&text.concat(), &[true; 3]).err().unwrap_or_default().contains(words), "{text:?}");
        }
        for text in [format!("{before}9{after}"), format!("{before}x"), format!("{after}{before}0{after}")] {
            assert!(Skeleton::read(&text, &[true]).is_err());
        }
    }
}
