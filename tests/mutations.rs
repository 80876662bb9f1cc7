//! Broken and hostile files by the thousand: every input format, mutated by what is known of its structure, in process
//! and through the program. Each is accepted or refused in a sentence, without a panic, a hang, or memory beyond the
//! file's size and 256 MiB.
//!
//! Number N of a format is the same file on every machine. `cargo test --test mutations -- --ignored` runs the full
//! numbers; `write_the_seeds` there fills `fuzz/seeds`.

#[path = "mutations/bombs.rs"]
mod bombs; // files meant to cost much
#[path = "mutations/bytes.rs"]
mod bytes; // changes that know no structure
#[path = "mutations/formats.rs"]
mod formats; // seeds, mutators and readers
#[path = "mutations/json.rs"]
mod json; // changes to JSON, also such as no library would write
#[path = "mutations/judge.rs"]
mod judge; // panics, hangs, memory, messages
#[path = "mutations/program.rs"]
mod program; // the same files given to the program
#[path = "mutations/seeds.rs"]
mod seeds; // sound files
#[path = "mutations/template.rs"]
mod template; // changes to chat templates
#[path = "mutations/text.rs"]
mod text; // changes to lines of `key = value`

use formats::{FORMATS, Format};
use judge::{Alone, Judge};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

/// Longest that a file may take, several times what any takes on a slow machine.
const LONGEST: Duration = Duration::from_secs(5);
/// Mutations of a format in every run of the tests.
const FEW: u64 = 500;
/// The same in the full form.
const MANY: u64 = 10_000;

/// The generator of mutation number `i` of the format `name`.
fn numbered(name: &str, i: u64) -> ChaCha8Rng {
    let name = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    ChaCha8Rng::seed_from_u64(name.wrapping_add(i))
}

/// Mutation number `i` of a format.
fn mutated(format: &Format, seeds: &[Vec<u8>], i: u64) -> Vec<u8> {
    let rng = &mut numbered(format.name, i);
    (format.mutate)(&seeds[i as usize % seeds.len()], rng)
}

/// Reads `n` mutations of each format. Of every format some must be accepted and some refused: a mutator that breaks
/// all or nothing tests nothing.
fn run(n: u64) {
    let (alone, mut faults) = (Alone::wait(), Vec::new());
    for format in FORMATS {
        let seeds = (format.seeds)();
        let mut judge = Judge::new(&alone, format.read, LONGEST);
        let mut accepted = 0;
        for seed in &seeds {
            assert_eq!(judge.judge(seed.clone()), Ok(true), "{}: the seed itself", format.name);
        }
        for i in 0..n {
            match judge.judge(mutated(format, &seeds, i)) {
                Ok(sound) => accepted += u64::from(sound),
                Err(fault) => {
                    faults.push(format!("{} number {i}: {fault:?}", format.name));
                    judge = Judge::new(&alone, format.read, LONGEST); // the old one may hang
                }
            }
        }
        let (slowest, most) = judge.worst();
        println!(
            "{:<16} {n} mutations, {accepted} accepted; slowest {} ms, most memory {} MiB",
            format.name,
            slowest.as_millis(),
            most >> 20
        );
        assert!(accepted > 0 && accepted < n, "{}: {accepted} of {n} accepted", format.name);
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn mutations_of_every_format_are_accepted_or_refused() {
    run(FEW);
}

#[test]
#[ignore = "10,000 mutations of each format, minutes"]
fn ten_thousand_mutations_of_every_format_are_accepted_or_refused() {
    run(MANY);
}

#[test]
#[ignore = "writes the corpora that fuzzing begins with"]
fn write_the_seeds() {
    for format in FORMATS {
        let Some(target) = format.target else { continue };
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        std::fs::create_dir_all(&folder).unwrap();
        let seeds = (format.seeds)();
        let mutations = (0..40).map(|i| mutated(format, &seeds, i));
        for (i, bytes) in seeds.iter().cloned().chain(mutations).enumerate() {
            // The target of token shards has the kind before the content.
            let kind = (format.name == "npy") as u8;
            let bytes = if target == "shard" { [&[kind][..], &bytes].concat() } else { bytes };
            if bytes.len() < 64 << 10 {
                std::fs::write(folder.join(format!("{}-{i:02}", format.name)), bytes).unwrap();
            }
        }
    }
}
