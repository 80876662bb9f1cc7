//! Event files, read by a reader that shares no code with the writer. `tests/golden/check_tensorboard.py` has them read
//! by TensorBoard.

use super::files::copy;
use super::{shared, succeeds, train};
use hadal::train::events::PREFIX;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// A number of a run: its step and tag, in single precision.
type Scalar = (u64, String, f32);

/// CRC-32C bit by bit, masked.
fn checksum(bytes: &[u8]) -> u32 {
    let mut rest = u32::MAX;
    for byte in bytes {
        rest ^= u32::from(*byte);
        (0..8).for_each(|_| rest = (rest >> 1) ^ (0x82f6_3b78 * (rest & 1)));
    }
    (!rest).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The first `n` bytes, and what follows.
fn take(bytes: &[u8], n: usize) -> Result<(&[u8], &[u8]), String> {
    bytes.split_at_checked(n).ok_or_else(|| format!("ends {n} bytes too early"))
}

/// `n` bytes that their checksum follows.
fn checked(bytes: &[u8], n: usize) -> Result<(&[u8], &[u8]), String> {
    let (data, rest) = take(bytes, n)?;
    let (stored, rest) = take(rest, 4)?;
    if stored == checksum(data).to_le_bytes() { Ok((data, rest)) } else { Err("wrong checksum".to_owned()) }
}

/// The data of each record.
fn records(mut bytes: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = checked(bytes, 8)?;
        let (data, rest) = checked(rest, u64::from_le_bytes(length.try_into().unwrap()) as usize)?;
        found.push(data);
        bytes = rest;
    }
    Ok(found)
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let (digits, rest) = bytes.split_at(end);
    *bytes = rest;
    digits.iter().rev().fold(0, |n, digit| n << 7 | u64::from(digit & 0x7f))
}

/// The fields of a message: number, and bytes of the value (an integer's in little-endian order).
fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let n = match key & 7 {
            0 => {
                found.push((key >> 3, varint(&mut message).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => varint(&mut message) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (value, rest) = message.split_at(n);
        found.push((key >> 3, value.to_vec()));
        message = rest;
    }
    found
}

/// The value of a field.
fn field(message: &[u8], number: u64) -> Option<Vec<u8>> {
    fields(message).into_iter().find_map(|(n, value)| (n == number).then_some(value))
}

fn files(run: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(run).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(PREFIX)).collect();
    paths.sort();
    paths
}

/// What a reader of all the run's files ends up with, sorted, and the steps that the files start at.
fn read(run: &Path) -> (Vec<Scalar>, Vec<u64>) {
    let (mut scalars, mut starts) = (Vec::<Scalar>::new(), Vec::new());
    for path in files(run) {
        let bytes = fs::read(&path).unwrap();
        let events = records(&bytes).unwrap();
        assert_eq!(field(events[0], 3).as_deref(), Some(&b"brain.Event:2"[..]));
        for event in events {
            let time = f64::from_le_bytes(field(event, 1).unwrap().try_into().unwrap());
            assert!((1.7e9..1e11).contains(&time), "{time}");
            let step = field(event, 2).map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
            if let Some(session) = field(event, 7) {
                assert_eq!(field(&session, 1).unwrap()[0], 1);
                scalars.retain(|(known, _, _)| *known < step);
                starts.push(step);
            }
            for (_, value) in field(event, 5).iter().flat_map(|summary| fields(summary)) {
                let tag = String::from_utf8(field(&value, 1).unwrap()).unwrap();
                scalars.push((step, tag, f32::from_le_bytes(field(&value, 2).unwrap().try_into().unwrap())));
            }
        }
    }
    scalars.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    (scalars, starts)
}

/// The same by the run's metrics.jsonl.
fn recorded(run: &Path) -> Vec<Scalar> {
    let mut scalars = Vec::new();
    for line in fs::read_to_string(run.join("metrics.jsonl")).unwrap().lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let step = row["step"].as_u64().unwrap();
        let mut add = |tag: String, value: &Value| scalars.push((step, tag, value.as_f64().unwrap() as f32));
        for (key, value) in row.as_object().unwrap() {
            match key.as_str() {
                "split" | "step" | "elapsed" | "wall_time" => {}
                "expert_load" => value.as_array().unwrap().iter().for_each(|load| {
                    let of_layer = |key: &str| format!("expert_load/layer_{}/{key}", load["layer"]);
                    ["max", "min", "entropy"].iter().for_each(|key| add(of_layer(key), &load[*key]));
                }),
                "lr" => add("train/learning_rate".to_owned(), value),
                key => add(format!("{}/{key}", row["split"].as_str().unwrap()), value),
            }
        }
    }
    scalars.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    scalars
}

#[test]
fn event_files_hold_what_metrics_jsonl_holds() {
    let run = shared().join("run");
    let (scalars, starts) = read(&run);
    assert_eq!(starts, [0]);
    assert_eq!(scalars, recorded(&run));
    for tag in ["train/loss", "val/loss", "train/grad_norm", "train/learning_rate", "expert_load/layer_1/entropy"] {
        assert!(scalars.iter().any(|(step, known, _)| (*step, known.as_str()) == (2, tag)), "{tag}");
    }
}

#[test]
fn events_have_the_times_of_their_rows() {
    let run = shared().join("run");
    let bytes = fs::read(&files(&run)[0]).unwrap();
    let of_rows = records(&bytes).unwrap().into_iter().filter(|event| field(event, 5).is_some());
    let events: Vec<f64> =
        of_rows.map(|event| f64::from_le_bytes(field(event, 1).unwrap().try_into().unwrap())).collect();
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |key: &str| rows.iter().map(|row| row[key].as_f64().unwrap()).collect::<Vec<_>>();
    assert_eq!(events, of("wall_time"));
    assert!(of("elapsed").is_sorted() && of("elapsed")[0] >= 0.0, "{:?}", of("elapsed"));
}

#[test]
fn a_resumed_run_voids_what_came_after_its_checkpoint() {
    let at = tempfile::tempdir().unwrap();
    let run = at.path().join("run");
    copy(&shared().join("run"), &run);
    let resume = |steps| {
        succeeds(at.path(), &["train", "--out", "run", "--resume", "--steps", steps, "--backend", "cpu"]);
        let (scalars, starts) = read(&run);
        assert_eq!(scalars, recorded(&run));
        starts
    };
    assert_eq!(resume("4"), [0, 3]);
    fs::remove_dir_all(run.join("checkpoints/step-00000004")).unwrap();
    assert_eq!(resume("3"), [0, 3, 3]);
    fs::remove_dir_all(run.join("checkpoints")).unwrap();
    fs::create_dir(run.join("checkpoints")).unwrap(); // as a run leaves it that is killed before its first save
    assert_eq!(resume("1"), [0, 3, 3, 0]);
    assert_eq!(read(&run).0.last().unwrap().0, 1);
}

#[test]
fn without_the_setting_there_are_no_event_files() {
    let at = tempfile::tempdir().unwrap();
    succeeds(at.path(), &train(&["--steps", "1", "--out", "run", "--set", "log.tensorboard=false"]));
    succeeds(at.path(), &["train", "--out", "run", "--resume", "--steps", "2", "--backend", "cpu"]);
    assert_eq!(files(&at.path().join("run")), <[PathBuf; 0]>::default());
}

#[test]
fn no_changed_byte_goes_unnoticed() {
    let files = files(&shared().join("run"));
    let mut bytes = fs::read(&files[0]).unwrap();
    for i in 0..bytes.len() {
        bytes[i] ^= 1 << (i % 8);
        assert!(records(&bytes).is_err(), "byte {i}");
        bytes[i] ^= 1 << (i % 8);
    }
    assert!(records(&bytes).is_ok() && records(&bytes[..bytes.len() - 1]).is_err());
}
