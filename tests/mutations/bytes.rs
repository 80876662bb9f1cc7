//! Changes that know no structure.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Words that sizes go wrong at.
const WORDS: [u64; 12] =
    [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0x1_0000_0000, i64::MAX as u64, 1 << 63, u64::MAX];

/// Changes `bytes` in one to four places, or leaves them.
pub fn mutate(bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    for _ in 0..rng.random_range(1..5) {
        change(bytes, rng);
    }
}

fn change(bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    if bytes.is_empty() {
        bytes.push(rng.random());
        return;
    }
    let at = rng.random_range(0..bytes.len());
    let end = (at + rng.random_range(1..64)).min(bytes.len());
    match rng.random_range(0..9) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes[at] = rng.random(),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let part = bytes[at..end].to_vec();
            let to = rng.random_range(0..=bytes.len());
            bytes.splice(to..to, part);
        }
        5 => {
            let word = WORDS[rng.random_range(0..WORDS.len())].to_le_bytes();
            let n = [2, 4, 8][rng.random_range(0..3)].min(bytes.len() - at);
            bytes[at..at + n].copy_from_slice(&word[..n]);
        }
        6 => {
            let odd: &[u8] =
                [&b"\0"[..], b"\xff", b"\xed\xa0\x80", b"\r\n", b"\xef\xbb\xbf", b"\x1b[2J"][rng.random_range(0..6)];
            bytes.splice(at..at, odd.iter().copied());
        }
        7 => {
            let n = rng.random_range(1..5000);
            let byte = bytes[at];
            bytes.splice(at..at, std::iter::repeat_n(byte, n));
        }
        _ => bytes.extend((0..rng.random_range(1..20)).map(|_| rng.random::<u8>())),
    }
}
