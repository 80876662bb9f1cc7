//! Forms in which data come and are not read: told by their names and first bytes, with how to make JSON lines of them.

use super::files::ending;
use crate::input::{IS_POINTER, is_pointer, open};
use std::io::Read;
use std::path::Path;

/// A form that is not read.
struct Format {
    name: &'static str,
    endings: &'static [&'static str],
    /// Bytes that such files begin with.
    marks: &'static [&'static [u8]],
    /// A command that converts `IN` to `OUT`, or what else to do.
    remedy: Remedy,
}

enum Remedy {
    /// A command that writes `OUT`, which is `IN` with this ending; none: without its own.
    Command(&'static str, Option<&'static str>),
    Advice(&'static str),
}
use Remedy::{Advice, Command};

const FORMATS: &[Format] = &[
    Format {
        name: "CSV",
        endings: &["csv"],
        marks: &[],
        remedy: Command(
            "python3 -c \"import csv,json,sys; [print(json.dumps(r)) for r in csv.DictReader(sys.stdin)]\" < IN > OUT",
            Some("jsonl"),
        ),
    },
    Format {
        name: "tab-separated values",
        endings: &["tsv", "tab"],
        marks: &[],
        remedy: Command(
            "python3 -c \"import csv,json,sys; [print(json.dumps(r)) for r in csv.DictReader(sys.stdin, \
             delimiter='\\t')]\" < IN > OUT",
            Some("jsonl"),
        ),
    },
    Format {
        name: "Parquet",
        endings: &["parquet", "pq"],
        marks: &[b"PAR1"],
        remedy: Command(
            "python3 -c \"import datasets; datasets.Dataset.from_parquet('IN').to_json('OUT')\"",
            Some("jsonl"),
        ),
    },
    Format {
        name: "Arrow's stream",
        endings: &["arrow"],
        marks: &[&[0xff, 0xff, 0xff, 0xff]],
        remedy: Command(
            "python3 -c \"import datasets; datasets.Dataset.from_file('IN').to_json('OUT')\"",
            Some("jsonl"),
        ),
    },
    Format {
        name: "Feather",
        endings: &["feather"],
        marks: &[b"ARROW1"],
        remedy: Command(
            "python3 -c \"import pandas; pandas.read_feather('IN').to_json('OUT', orient='records', lines=True)\"",
            Some("jsonl"),
        ),
    },
    Format {
        name: "compressed by gzip",
        endings: &["gz", "tgz"],
        marks: &[&[0x1f, 0x8b]],
        remedy: Command("gzip -dc IN > OUT", None),
    },
    Format {
        name: "compressed by Zstandard",
        endings: &["zst", "zstd"],
        marks: &[&[0x28, 0xb5, 0x2f, 0xfd]],
        remedy: Command("zstd -dc IN > OUT", None),
    },
    Format {
        name: "compressed by bzip2",
        endings: &["bz2"],
        marks: &[b"BZh91AY&SY"],
        remedy: Command("bzip2 -dc IN > OUT", None),
    },
    Format {
        name: "compressed by xz",
        endings: &["xz"],
        marks: &[b"\xfd7zXZ\0"],
        remedy: Command("xz -dc IN > OUT", None),
    },
    Format {
        name: "compressed by LZ4",
        endings: &["lz4"],
        marks: &[&[0x04, 0x22, 0x4d, 0x18]],
        remedy: Command("lz4 -dc IN > OUT", None),
    },
    Format {
        name: "a workbook",
        endings: &["xlsx", "xls", "ods"],
        marks: &[],
        remedy: Advice("save its sheet as CSV, and that as JSON lines"),
    },
    Format {
        name: "a document with a layout",
        endings: &["docx", "doc", "odt", "epub", "pdf"],
        marks: &[b"%PDF-"],
        remedy: Advice("save it as plain text"),
    },
    Format {
        name: "an archive",
        endings: &["zip", "7z", "rar", "tar"],
        marks: &[b"PK\x03\x04", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"],
        remedy: Advice("unpack it, and name what was in it"),
    },
    Format {
        name: "a Python pickle",
        endings: &["pkl", "pickle"],
        marks: &[],
        remedy: Advice("write JSON lines where it was made: reading it could run any program"),
    },
    Format {
        name: "a database of SQLite",
        endings: &["sqlite", "sqlite3", "db"],
        marks: &[b"SQLite format 3\0"],
        remedy: Advice("write its table as JSON lines"),
    },
    Format {
        name: "a file of weights",
        endings: &["safetensors", "gguf", "pt", "pth", "ckpt"],
        marks: &[b"GGUF"],
        remedy: Advice("a model is named by --model"),
    },
    Format {
        name: "UTF-16",
        endings: &[],
        marks: &[&[0xff, 0xfe], &[0xfe, 0xff]],
        remedy: Command("iconv -f UTF-16 -t UTF-8 IN > OUT", Some("utf8.txt")),
    },
];

/// What `path` is and how to convert it, in words that follow its name, where its name says that it is not read.
pub fn by_name(path: &Path) -> Option<String> {
    let ending = ending(path);
    FORMATS.iter().find(|format| format.endings.contains(&&*ending)).map(|format| format.told(path))
}

/// The same where its first bytes or its name say so. A file that cannot be opened is none: who reads it will say why.
pub fn by_content(path: &Path) -> Option<String> {
    let mut head = Vec::new();
    open(path).ok()?.take(64).read_to_end(&mut head).ok()?;
    if is_pointer(&head) {
        return Some(IS_POINTER.to_owned());
    }
    let format = FORMATS.iter().find(|format| format.marks.iter().any(|mark| head.starts_with(mark)));
    match (format, by_name(path)) {
        // A workbook is an archive too; what it is called says more.
        (Some(Format { name: "an archive", .. }), Some(named)) => Some(named),
        (Some(format), _) => Some(format.told(path)),
        (None, named) => named,
    }
}

impl Format {
    fn told(&self, path: &Path) -> String {
        let name = self.name;
        match self.remedy {
            Advice(advice) => format!("is {name}, which is not read; {advice}"),
            Command(command, ending) => {
                let out = ending.map_or(path.with_extension(""), |ending| path.with_extension(ending));
                let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
                // What a shell would read otherwise is not spelled out.
                let shown = |path: &Path, other: &str| match path.to_str() {
                    Some(text) if text.chars().all(plain) => text.to_owned(),
                    _ => other.to_owned(),
                };
                // A path may have the word for the other in it.
                let parts = command.split("IN").map(|part| part.replace("OUT", &shown(&out, "OUT")));
                let command = parts.collect::<Vec<_>>().join(&shown(path, "IN"));
                format!("is {name}, which is not read; convert it, such as by `{command}`")
            }
        }
    }
}
