//! `hadal data`

use super::output;
use crate::config::data::{AUTO, DataConfig, TokenType};
use crate::data::Cache;
use crate::data::census::Census;
use crate::data::corpus::Corpus;
use crate::data::record::Turn;
use crate::data::world::{Split, World, chat};
use crate::error::{Error, Result};
use crate::terminal::print;
use crate::tokenizer::Tokenizer;
use clap::{Args, Subcommand};
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct DataArgs {
    #[command(subcommand)]
    what: Option<What>,
    /// Files or folders: UTF-8 text, JSON lines (.jsonl), tokens (.bin, .npy)
    #[arg(required = true)]
    path: Vec<PathBuf>,
    /// byte, gpt2, cl100k, world, or a tokenizer.json
    #[arg(long, value_name = "NAME|FILE", default_value = "gpt2")]
    tokenizer: String,
    /// Key of the text in a JSON line; auto: tell by the first line's keys
    #[arg(long, value_name = "KEY", default_value = AUTO)]
    text_field: String,
    /// Numbers in .bin files without a header
    #[arg(long, value_enum, default_value = "auto")]
    token_type: TokenType,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Stories or chats of the embedded world
    World {
        /// What to write
        #[arg(long, value_enum, default_value = "text")]
        kind: Kind,
        /// Stories, or chats
        #[arg(long, default_value_t = 1000)]
        stories: u64,
        /// Seed of the stories
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The file; must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kind {
    /// Plain text, stories apart by blank lines
    Text,
    /// JSON lines of messages, a chat a line
    Chat,
}

impl Kind {
    /// Story or chat number `n` as it stands in the file.
    fn written(self, world: World, n: u64) -> String {
        match self {
            Kind::Text => world.story(n).text + "\n",
            Kind::Chat => {
                let turns = chat::turns(&world.chat(n, Split::Train));
                let message = |turn: &Turn| json!({ "role": turn.role.name(), "content": turn.content });
                json!({ "messages": turns.iter().map(message).collect::<Vec<_>>() }).to_string()
            }
        }
    }
}

pub(super) fn run(args: DataArgs) -> Result<()> {
    match args.what {
        Some(What::World { kind, stories, seed, out }) => world(kind, stories, seed, out),
        None => count(args),
    }
}

/// Reads all data as a run would, and says what is in it.
fn count(args: DataArgs) -> Result<()> {
    let tokenizer = Tokenizer::load(&args.tokenizer)?;
    let config = DataConfig { text_field: args.text_field, token_type: args.token_type, ..DataConfig::default() };
    let corpus = Corpus::open(&args.path, &[], &config, &tokenizer, &Cache::of_user())?;
    let (totals, used, ids) = (corpus.totals(), corpus.used_ids(&tokenizer)?, tokenizer.used_ids());
    print(format_args!("files {}", corpus.files()))?;
    print(format_args!("documents {}", totals.documents))?;
    print(format_args!("bytes {}", totals.bytes))?;
    print(format_args!("tokens {}", totals.tokens))?;
    print(format_args!("bytes_per_token {:.4}", totals.bytes as f64 / totals.tokens.max(1) as f64))?;
    print(format_args!("vocabulary {ids}"))?;
    print(format_args!("vocabulary_used {used}"))?;
    print(format_args!("vocabulary_coverage {:.6}", used as f64 / ids.max(1) as f64))?;
    if config.text_field == AUTO {
        for (shape, Census { files, records, turns, empty }) in corpus.census()? {
            print(format_args!("shape {shape} files {files} records {records} turns {turns} empty {empty}"))?;
        }
    }
    Ok(())
}

/// Writes stories or chats of the embedded world to the new file `out`.
fn world(kind: Kind, stories: u64, seed: u64, out: PathBuf) -> Result<()> {
    output(&out)?;
    let world = World::new(seed);
    let file = std::fs::File::create_new(&out).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::Usage(format!("{}: exists already; name a new file", out.display()))
        }
        _ => Error::write(&out, e),
    })?;
    let mut file = std::io::BufWriter::new(file);
    for n in 0..stories {
        writeln!(file, "{}", kind.written(world, n)).map_err(|e| Error::io(&out, e))?;
    }
    file.flush().map_err(|e| Error::io(&out, e))
}
