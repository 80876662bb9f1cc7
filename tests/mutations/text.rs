//! Changes to lines of `key = value`, as configurations have them.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

const ODD: [&str; 26] = [
    "0",
    "-1",
    "1e999",
    "nan",
    "-inf",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "0x7fffffffffffffff",
    "0.1",
    "true",
    "\"\"",
    "\"..\"",
    "\"a\\u001b[2J\"",
    "[]",
    "{}",
    "[[[[]]]]",
    "{a = 1}",
    "1979-05-27",
    "''",
    "[1, \"a\"]",
    "2147483648",
    "4294967296",
    "1_000",
    "\"\\ud800\"",
    "",
];

/// A configuration with one to three lines changed, now and then also its bytes.
pub fn mutated(seed: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let text = String::from_utf8_lossy(seed);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..rng.random_range(1..4) {
        let (a, b) = (rng.random_range(0..lines.len()), rng.random_range(0..lines.len()));
        change(&mut lines, a, b, rng);
    }
    let mut bytes = lines.join("\n").into_bytes();
    if rng.random_range(0..6) == 0 {
        super::bytes::mutate(&mut bytes, rng);
    }
    bytes
}

fn change(lines: &mut Vec<String>, a: usize, b: usize, rng: &mut ChaCha8Rng) {
    let odd = ODD[rng.random_range(0..ODD.len())];
    let n = rng.random_range(1..5000);
    let key = lines[a].split('=').next().unwrap_or_default().to_owned();
    match rng.random_range(0..16) {
        0..6 => lines[a] = format!("{key}= {odd}"),
        6 => lines.insert(b, lines[a].clone()),
        7 => drop(lines.remove(a)),
        8 => lines.swap(a, b),
        9 => lines[a] = format!("x{}", lines[a]),
        10 => lines[a] = format!("{key}= {}", "[".repeat(n)),
        11 => lines[a] = format!("{key}= {}1{}", "{a = ".repeat(n), "}".repeat(n)),
        12 => lines[a] = format!("{}a = 1", "a.".repeat(n)),
        13 => lines[a] = format!("[{}a]", "a.".repeat(n)),
        14 => lines[a] = format!("[{}]", key.trim()),
        _ => lines[a] = format!("{key}= \"{}\"", "x".repeat(n * 10)),
    }
    if lines.is_empty() {
        lines.push(String::new());
    }
}
