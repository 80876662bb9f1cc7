//! The rows of a run in the form that TensorBoard reads.
//!
//! A file is a sequence of records: the data's length in 8 bytes, a checksum of these, the data, a checksum of the
//! data, all little-endian. Data is an `Event` in protobuf's encoding; of its messages this module writes what a
//! scalar needs (`event.proto` and `summary.proto` of TensorFlow).

use super::appender::Appender;
use super::clock::now;
use super::rows::{Numbers, Row, SftNumbers, Stamped, TrainRow, ValRow};
use crate::error::{Error, Result};
use std::fs::OpenOptions;
use std::path::Path;

/// What the names of the files begin with; seconds since 1970 follow. Readers take the files in the order of names.
pub const PREFIX: &str = "events.out.tfevents.";

/// What readers decide by how they treat a run that goes on: by [`START`], not by steps out of order.
const VERSION: &str = "brain.Event:2";

/// `SessionLog.status` at the start of a process. From the second start of a run on, readers drop what they have seen
/// of its step and of later ones. They let the first drop nothing, so every file has one.
const START: u64 = 1;

/// An event file that rows are appended to.
#[derive(Debug)]
pub struct EventFile(Appender);

impl EventFile {
    /// A new file in the run folder `folder`, after those that are there; what they hold of step `from` and of later
    /// ones no longer counts.
    pub fn create(folder: &Path, from: u64) -> Result<EventFile> {
        let path = folder.join(next_name(folder)?);
        let file = OpenOptions::new().append(true).create_new(true).open(&path).map_err(|e| Error::write(&path, e))?;
        let mut file = Appender::to(&path, file);
        let now = now();
        let mut head = record(&event(now, 0).bytes(3, VERSION.as_bytes()));
        head.extend(record(&event(now, from).message(7, &Message::default().integer(1, START))));
        file.append(head)?;
        Ok(EventFile(file))
    }

    /// Appends one row, under its time, and hands it to the operating system, or keeps it until the disk takes it.
    ///
    /// Errors: the disk did not take all of it, and of what waited before.
    pub fn record(&mut self, line: &Stamped<&Row>) -> Result<()> {
        self.0.append(scalars(line.wall_time, line.row))
    }

    /// Writes what waits.
    ///
    /// Errors: the disk did not take it.
    pub fn flush(&mut self) -> Result<()> {
        self.0.flush()
    }
}

/// The name of the folder's next file, which sorts behind those that are there even if the clock was set back.
fn next_name(folder: &Path) -> Result<String> {
    let (mut seconds, mut number) = (now() as u64, 0);
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let name = entry.map_err(|e| Error::io(folder, e))?.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let known = rest.split('.').next().and_then(|digits| digits.parse().ok());
        seconds = seconds.max(known.unwrap_or(0));
        number += 1;
    }
    Ok(format!("{PREFIX}{seconds:010}.hadal.{number:04}"))
}

/// A row as a record: one event with all its numbers.
fn scalars(time: f64, row: &Row) -> Vec<u8> {
    let summary = tagged(row).iter().fold(Message::default(), |summary, (tag, value)| {
        summary.message(1, &Message::default().bytes(1, tag.as_bytes()).float(2, *value as f32))
    });
    record(&event(time, row.step()).message(5, &summary))
}

/// Every number of a row but its step, with its tag: `train/` or `val/` and the name in `metrics.jsonl`, except that
/// the learning rate has its full name and each layer's expert load a group of its own.
pub fn tagged(row: &Row) -> Vec<(String, f64)> {
    // Taken apart field by field, so that a new one does not go missing here.
    match row {
        Row::Train(TrainRow {
            step: _,
            loss,
            balance_loss,
            lr,
            grad_norm,
            tokens,
            tokens_per_second,
            loss_scale,
            skipped,
            expert_load,
            dropped,
            sft,
            numbers,
        }) => {
            let own = [
                ("loss", *loss),
                ("balance_loss", *balance_loss),
                ("learning_rate", *lr),
                ("grad_norm", *grad_norm),
                ("tokens", *tokens as f64),
                ("tokens_per_second", *tokens_per_second),
                ("loss_scale", *loss_scale),
                ("skipped", *skipped as f64),
                ("dropped", *dropped as f64),
            ];
            let loads = expert_load.iter().flat_map(|load| {
                let shares = [("max", load.max), ("min", load.min), ("entropy", load.entropy)];
                shares.map(|(name, value)| (format!("expert_load/layer_{}/{name}", load.layer), value))
            });
            let sft = sft.iter().flat_map(|numbers| {
                let SftNumbers { mean_token_accuracy, num_tokens, aux_loss } = *numbers;
                [
                    ("mean_token_accuracy", mean_token_accuracy),
                    ("num_tokens", num_tokens as f64),
                    ("aux_loss", aux_loss),
                ]
            });
            let named = own.into_iter().chain(sft).map(|(name, value)| (format!("train/{name}"), value));
            named.chain(loads).chain(of_stage("train", numbers)).collect()
        }
        Row::Val(ValRow { step: _, loss, bits_per_byte, token_accuracy, numbers }) => {
            // Rows of preference training lack the last two, and those of rollouts have no loss either.
            let own = [("loss", loss), ("bits_per_byte", bits_per_byte), ("token_accuracy", token_accuracy)];
            let own = own.into_iter().filter(|(_, value)| numbers.is_empty() || !value.is_nan());
            let own = own.map(|(name, value)| (format!("val/{name}"), *value));
            own.chain(of_stage("val", numbers)).collect()
        }
    }
}

fn of_stage<'n>(split: &'n str, numbers: &'n Numbers) -> impl Iterator<Item = (String, f64)> + 'n {
    numbers.iter().map(move |(name, value)| (format!("{split}/{name}"), *value))
}

/// An `Event` without content.
fn event(time: f64, step: u64) -> Message {
    let message = Message::default().double(1, time);
    // A number that is 0 is left out, as other writers do.
    if step == 0 { message } else { message.integer(2, step) }
}

/// Fields of a protobuf message, in the order in which they were added.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(mut self, mut n: u64) -> Message {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
        self
    }

    /// The head of a field: its number, and how its value is encoded.
    fn key(self, field: u64, wire_type: u64) -> Message {
        self.varint(field << 3 | wire_type)
    }

    fn integer(self, field: u64, value: u64) -> Message {
        self.key(field, 0).varint(value)
    }

    fn double(self, field: u64, value: f64) -> Message {
        self.key(field, 1).raw(&value.to_le_bytes())
    }

    fn float(self, field: u64, value: f32) -> Message {
        self.key(field, 5).raw(&value.to_le_bytes())
    }

    fn bytes(self, field: u64, value: &[u8]) -> Message {
        self.key(field, 2).varint(value.len() as u64).raw(value)
    }

    fn message(self, field: u64, value: &Message) -> Message {
        self.bytes(field, &value.0)
    }

    fn raw(mut self, bytes: &[u8]) -> Message {
        self.0.extend_from_slice(bytes);
        self
    }
}

/// A message as a record of the file.
fn record(Message(data): &Message) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let checksum = |bytes: &[u8]| masked(crc32c(bytes)).to_le_bytes();
    [&length[..], &checksum(&length), data, &checksum(data)].concat()
}

/// The checksum as it is stored: a checksum of data that contains its own would be poor.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli): the remainder after division by the reflected polynomial 0x82f63b78.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let (mut table, mut i) = ([0; 256], 0);
        while i < 256 {
            let (mut rest, mut bit) = (i as u32, 0);
            while bit < 8 {
                rest = if rest & 1 == 1 { rest >> 1 ^ 0x82f6_3b78 } else { rest >> 1 };
                bit += 1;
            }
            table[i] = rest;
            i += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, &byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::rows::ExpertLoad;

    /// Written by TensorBoard: see `tests/golden/check_tensorboard.py`.
    const GOLDEN: &[u8] = include_bytes!("../../tests/golden/tensorboard/events.out.tfevents.golden");

    /// What the golden file holds.
    fn golden_rows() -> [Row; 4] {
        let load = |layer, max, min, entropy| ExpertLoad { layer, max, min, entropy };
        let first = TrainRow {
            step: 1,
            loss: 6.958_984_375,
            balance_loss: 0.001_7,
            lr: 2e-5,
            grad_norm: 1.25,
            tokens: 2048,
            tokens_per_second: 23_456.789,
            loss_scale: 65536.0,
            skipped: 0,
            expert_load: vec![load(1, 0.25, 0.0625, 0.9375), load(26, 1.0 / 3.0, 0.0, 0.5)],
            dropped: 0,
            sft: None,
            numbers: Numbers::default(),
        };
        let broken = TrainRow {
            step: 300,
            loss: f64::NAN,
            grad_norm: f64::INFINITY,
            tokens: 614_400,
            skipped: 3,
            ..TrainRow::default()
        };
        let val =
            |step, loss| Row::Val(ValRow { step, loss, bits_per_byte: 1.75, token_accuracy: 0.5, ..ValRow::default() });
        [val(0, 6.9), Row::Train(first), val(5_000_000_000, 1e-3), Row::Train(broken)]
    }

    #[test]
    fn the_checksum_has_the_values_that_rfc_3720_lists() {
        assert_eq!(crc32c(b""), 0);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&std::array::from_fn::<u8, 32, _>(|i| i as u8)), 0x46dd_794e);
        assert_eq!(crc32c(&std::array::from_fn::<u8, 32, _>(|i| 31 - i as u8)), 0x113f_db5c);
    }

    #[test]
    fn records_are_those_of_tensorboards_own_writer_byte_for_byte() {
        let mut written = record(&event(1.75e9, 0).bytes(3, VERSION.as_bytes()));
        written.extend(record(&event(1.75e9, 301).message(7, &Message::default().integer(1, START))));
        for (i, row) in golden_rows().iter().enumerate() {
            written.extend(scalars(1.75e9 + 0.5 * i as f64, row));
        }
        let differs = written.iter().zip(GOLDEN).position(|(a, b)| a != b);
        assert_eq!((differs, written.len()), (None, GOLDEN.len()));
    }

    #[test]
    fn a_new_file_sorts_behind_the_others_even_after_the_clock_was_set_back() {
        let folder = tempfile::tempdir().unwrap();
        let names = || {
            let entries = std::fs::read_dir(folder.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        for number in 0..3 {
            let made = EventFile::create(folder.path(), 0).unwrap();
            assert_eq!(names().len(), number + 1);
            assert_eq!(names().last().map(AsRef::as_ref), made.0.path().file_name());
        }
        std::fs::write(folder.path().join(format!("{PREFIX}9000000000.elsewhere")), "").unwrap();
        let made = EventFile::create(folder.path(), 0).unwrap();
        assert_eq!(names().last().map(AsRef::as_ref), made.0.path().file_name());
    }
}
