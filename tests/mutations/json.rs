//! Changes to JSON, also such as no library would write: keys twice, numbers beyond any type, broken escapes.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

/// A value; scalars and keys are JSON text, sound or not.
#[derive(Clone, Debug)]
pub enum Node {
    Scalar(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

const ODD: [&str; 34] = [
    "0",
    "-1",
    "1",
    "2",
    "-0",
    "0.5",
    "1e999",
    "-1e999",
    "1e-999",
    "1e308",
    "4294967295",
    "4294967296",
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "123456789012345678901234567890",
    "null",
    "true",
    "false",
    "NaN",
    "Infinity",
    "\"\"",
    "\"..\"",
    "\"../../x\"",
    "\"/etc/passwd\"",
    "\"C:\\\\x\"",
    "\"nul\"",
    "\"a\\u0000b\"",
    "\"\\ud800\"",
    "\"\\u001b[2J\"",
    "[]",
    "{}",
];

impl Node {
    /// Nothing if `text` is no JSON.
    pub fn parse(text: &[u8]) -> Option<Node> {
        Some(Node::of(&serde_json::from_slice(text).ok()?))
    }

    fn of(value: &Value) -> Node {
        match value {
            Value::Array(values) => Node::List(values.iter().map(Node::of).collect()),
            Value::Object(map) => Node::Object(
                map.iter().map(|(key, value)| (Value::from(key.as_str()).to_string(), Node::of(value))).collect(),
            ),
            scalar => Node::Scalar(scalar.to_string()),
        }
    }

    pub fn text(&self) -> String {
        let joined = |parts: Vec<String>| parts.join(",");
        match self {
            Node::Scalar(text) => text.clone(),
            Node::List(values) => format!("[{}]", joined(values.iter().map(Node::text).collect())),
            Node::Object(entries) => {
                format!(
                    "{{{}}}",
                    joined(entries.iter().map(|(key, value)| format!("{key}:{}", value.text())).collect())
                )
            }
        }
    }

    fn children(&self) -> usize {
        match self {
            Node::Scalar(_) => 0,
            Node::List(values) => values.len(),
            Node::Object(entries) => entries.len(),
        }
    }

    fn child(&mut self, i: usize) -> &mut Node {
        match self {
            Node::Scalar(_) => self,
            Node::List(values) => &mut values[i],
            Node::Object(entries) => &mut entries[i].1,
        }
    }

    /// Some value of the tree; deeper ones more often.
    fn pick(&mut self, rng: &mut ChaCha8Rng) -> &mut Node {
        match self.children() {
            0 => self,
            _ if rng.random_range(0..5) == 0 => self,
            n => self.child(rng.random_range(0..n)).pick(rng),
        }
    }
}

/// Changes one to three values of the tree.
pub fn mutate(tree: &mut Node, rng: &mut ChaCha8Rng) {
    for _ in 0..rng.random_range(1..4) {
        let other = tree.pick(rng).clone();
        let node = tree.pick(rng);
        match rng.random_range(0..10) {
            0..3 => *node = odd(rng),
            3 => *node = other,
            4 => *node = wrapped(node.clone(), rng),
            _ => inside(node, rng),
        }
    }
}

/// A value that no file has there.
fn odd(rng: &mut ChaCha8Rng) -> Node {
    let n = rng.random_range(1..3000);
    Node::Scalar(match rng.random_range(0..16) {
        0 => format!("\"{}\"", "x".repeat(n * 10)),
        1 => "[".repeat(n),
        2 => format!("{}{}", "[".repeat(n), "]".repeat(n)),
        3 => format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n)),
        4 => format!("[{}0]", "0,".repeat(n)),
        5 => "9".repeat(n),
        6 => format!("\"{}\"", "\\u001b\\u202e\u{1f600}".repeat(n)),
        _ => ODD[rng.random_range(0..ODD.len())].to_owned(),
    })
}

fn wrapped(mut node: Node, rng: &mut ChaCha8Rng) -> Node {
    for _ in 0..[1, 2, 150][rng.random_range(0..3)] {
        node = if rng.random() { Node::List(vec![node]) } else { Node::Object(vec![("\"a\"".to_owned(), node)]) };
    }
    node
}

/// Changes the entries of a list or object, or a scalar by little.
fn inside(node: &mut Node, rng: &mut ChaCha8Rng) {
    let (n, what) = (node.children(), rng.random_range(0..5));
    let (a, b) = (rng.random_range(0..n.max(1)), rng.random_range(0..n.max(1)));
    match node {
        Node::Scalar(text) => *text = nearby(text, rng),
        Node::List(_) | Node::Object(_) if n == 0 => *node = odd(rng),
        Node::List(values) => match what {
            0 => drop(values.remove(a)),
            1 => values.insert(b, values[a].clone()),
            2 => values.swap(a, b),
            3 => values.push(odd(rng)),
            _ => values.truncate(a),
        },
        Node::Object(entries) => match what {
            0 => drop(entries.remove(a)),
            1 => entries.insert(b, entries[a].clone()),
            2 => entries[a].0 = entries[b].0.clone(),
            3 => {
                entries[a].0 = ["\"\"", "\"x\"", "\"__metadata__\"", "\"\\u0000\"", "\"../x\"", "7"]
                    [rng.random_range(0..6)]
                .to_owned()
            }
            _ => entries.insert(a, (format!("\"{}\"", "k".repeat(rng.random_range(1..2000))), odd(rng))),
        },
    }
}

/// A number close by or far off, a string a little different.
fn nearby(text: &str, rng: &mut ChaCha8Rng) -> String {
    if let Ok(x) = text.parse::<i128>() {
        let y = match rng.random_range(0..6) {
            0 => x.saturating_add(1),
            1 => x.saturating_sub(1),
            2 => x.saturating_neg(),
            3 => x.saturating_mul(2),
            4 => x.saturating_add(1 << 32),
            _ => x.saturating_mul(1 << 40),
        };
        return y.to_string();
    }
    match text.strip_suffix('"').and_then(|text| text.strip_prefix('"')) {
        Some(inner) => match rng.random_range(0..5) {
            0 => format!("\"{inner}{inner}\""),
            1 => format!("\"../{inner}\""),
            2 => format!("\"{}\"", inner.to_uppercase()),
            3 => format!("\"{inner}\\n\\u0000\""),
            _ => "\"\"".to_owned(),
        },
        None => ODD[rng.random_range(0..ODD.len())].to_owned(),
    }
}

/// A mutation of a JSON file, now and then also of its bytes.
pub fn mutated(seed: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = match Node::parse(seed) {
        Some(mut tree) => {
            mutate(&mut tree, rng);
            tree.text().into_bytes()
        }
        None => seed.to_vec(),
    };
    if rng.random_range(0..6) == 0 {
        super::bytes::mutate(&mut bytes, rng);
    }
    bytes
}
