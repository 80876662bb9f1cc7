//! Cuts text into pieces that can be tokenised on their own, so that encoding is parallel and its worst case bounded.
//!
//! Byte-pair merging and backtracking expressions both degrade on very long runs of one character class; no piece is
//! longer than [`LIMIT`]. Where the text has lines or words, the cut is a place where the byte-level pre-tokenisers
//! cut too: after a single line feed, or before a single space, between visible characters. The pieces' tokens are
//! then those of the whole. (A vocabulary that marks the beginning of a text marks that of each piece.)

/// A piece is cut at the first good place after this many bytes.
const TARGET: usize = 8 << 10;
/// A piece is cut anywhere rather than become longer than this many bytes.
const LIMIT: usize = 16 << 10;

/// Bytes beyond which the rest of a text no longer moves the end of its first piece.
const KNOWN: usize = LIMIT + 4;

/// The pieces of `text`, in order; their concatenation is `text`.
pub fn pieces(text: &str) -> Vec<&str> {
    let mut out = Vec::with_capacity(text.len() / TARGET + 1);
    let mut rest = text;
    while let Some(end) = piece(rest, false) {
        let (piece, tail) = rest.split_at(end);
        out.push(piece);
        rest = tail;
    }
    out
}

/// Where the first piece of `text` ends; none without text, or where `more` text follows that decides it.
pub fn piece(text: &str, more: bool) -> Option<usize> {
    match text.len() {
        0 => None,
        length if more && length < KNOWN => None,
        length if length <= TARGET => Some(length),
        _ => Some(cut(text)),
    }
}

/// Where the first piece of `text`, which is longer than [`TARGET`], ends.
fn cut(text: &str) -> usize {
    let bytes = text.as_bytes();
    let end = bytes.len().min(LIMIT);
    // Visible ASCII around the cut: other characters might be spaces of Unicode.
    let visible = |at: usize| bytes[at].is_ascii_graphic();
    let line = (TARGET..end).find(|&at| bytes[at - 1] == b'\n' && visible(at) && visible(at - 2));
    let word =
        || (TARGET..end - 1).find(|&at| bytes[at] == b' ' && visible(at - 1) && bytes[at + 1].is_ascii_alphabetic());
    line.or_else(word).unwrap_or_else(|| text.floor_char_boundary(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_to_the_text_and_stay_short() {
        let lines: String = (0..4000).map(|i| format!("line {i} of the text\n")).collect();
        let unbroken = "\u{e9}^ ".repeat(20_000);
        for text in [lines.as_str(), unbroken.as_str(), "short", ""] {
            let pieces = pieces(text);
            assert_eq!(pieces.concat(), text);
            assert!(pieces.iter().all(|p| p.len() <= LIMIT && !p.is_empty()));
        }
        assert!(pieces(&lines).iter().all(|p| p.ends_with('\n')));
    }

    #[test]
    fn text_that_arrives_bit_by_bit_is_cut_as_the_whole() {
        let lines: String = (0..3000).map(|i| format!("line {i} of\u{e9} text\n\n  x")).collect();
        let unbroken = "\u{e9}^ ".repeat(20_000);
        for text in [lines.as_str(), unbroken.as_str()] {
            for step in [1000, 7001, 40_000] {
                let (mut found, mut start, mut known) = (Vec::new(), 0, 0);
                while known < text.len() {
                    known = text.ceil_char_boundary((known + step).min(text.len()));
                    while let Some(end) = piece(&text[start..known], known < text.len()) {
                        found.push(&text[start..start + end]);
                        start += end;
                    }
                }
                assert_eq!(found, pieces(text));
            }
        }
    }
}
