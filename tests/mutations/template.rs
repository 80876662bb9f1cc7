//! Changes to chat templates: their blocks, expressions and filters.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

const ODD: [&str; 16] = [
    "{% for a in messages %}",
    "{% endfor %}",
    "{% if a %}",
    "{% endif %}",
    "{% set a = a ~ a %}",
    "{{ messages | tojson }}",
    "{{ messages[9].content }}",
    "{{ 'x' * 99999999 }}",
    "{{ range(99999) | join('x') }}",
    "{{ raise_exception('\n') }}",
    "{{ bos_token }}",
    "{{ 1 // 0 }}",
    "{{ m.content.split('x')[0] }}",
    "{#",
    "{%- else -%}",
    "\u{10fffe}0\u{10ffff}",
];

/// A template with one to three lines changed, now and then also its bytes.
pub fn mutated(seed: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let text = String::from_utf8_lossy(seed);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..rng.random_range(1..4) {
        let (a, b) = (rng.random_range(0..lines.len()), rng.random_range(0..lines.len()));
        let odd = ODD[rng.random_range(0..ODD.len())];
        match rng.random_range(0..8) {
            0 => lines.insert(b, lines[a].clone()),
            1 => lines.swap(a, b),
            2 => lines[a] += odd,
            3 => lines[a] = lines[a].replacen("m", "messages", 1),
            4 => lines[a] = lines[a].replacen("content", odd, 1),
            5 => lines[a] = lines[a].replace('+', "~"),
            6 => lines[a] = lines[a].replace('\'', "\""),
            _ => lines[a] = odd.repeat(rng.random_range(1..300)),
        }
    }
    let mut bytes = lines.join("\n").into_bytes();
    if rng.random_range(0..6) == 0 {
        super::bytes::mutate(&mut bytes, rng);
    }
    bytes
}
