//! The alphabet in which byte-level vocabularies are written: one printable character for each of the 256 bytes.
//!
//! Bytes that are printable in Latin-1 stand for themselves; the other 68 take the characters from U+0100 on, in
//! their order. GPT-2 introduced it (`bytes_to_unicode` in its encoder), and `tokenizer.json` files follow.

/// Whether `byte` stands for itself.
fn printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The character that stands for `byte`.
pub fn to_char(byte: u8) -> char {
    if printable(byte) {
        return char::from(byte);
    }
    let place = (0..byte).filter(|&b| !printable(b)).count() as u32;
    char::from_u32(0x100 + place).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// `bytes` in the alphabet.
pub fn to_text(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| to_char(b)).collect()
}

/// The bytes that `text` stands for; none if it has a character outside the alphabet.
pub fn from_text(text: &str) -> Option<Vec<u8>> {
    text.chars()
        .map(|c| match u32::from(c) {
            code @ 0..=0xFF if printable(code as u8) => Some(code as u8),
            code => (0..=255u8).filter(|&b| !printable(b)).nth(code.checked_sub(0x100)? as usize),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_a_bijection_and_a_space_is_written_as_g_with_a_dot() {
        let all: Vec<u8> = (0..=255).collect();
        let text = to_text(&all);
        assert_eq!(text.chars().collect::<std::collections::HashSet<_>>().len(), 256);
        assert_eq!(from_text(&text), Some(all));
        assert_eq!(to_text(b" a\n"), "\u{120}a\u{10a}");
        assert_eq!(from_text("a b"), None);
    }
}
