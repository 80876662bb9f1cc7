//! `hadal data`

use super::summary::grouped;
use super::{output, positive};
use crate::config::data::{AUTO, DataConfig, TokenType};
use crate::config::task::TaskConfig;
use crate::data::Cache;
use crate::data::arithmetic::Arithmetic;
use crate::data::census::Census;
use crate::data::corpus::Corpus;
use crate::data::record::{Role, Turn};
use crate::data::world::{Split, World, chat};
use crate::error::{Error, Result};
use crate::terminal::print;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct DataArgs {
    #[command(subcommand)]
    what: Option<What>,
    /// Files or folders: UTF-8 text, JSON lines (.jsonl) or a list of objects (.json), tokens (.bin, .npy)
    #[arg(required = true)]
    path: Vec<PathBuf>,
    /// byte, as a run on --data takes it unless its configuration names another;
    /// gpt2, cl100k, world, or a tokenizer.json
    #[arg(long, value_name = "NAME|FILE", default_value = "byte")]
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
    /// Stories, chats, preferences or questions of the embedded world
    World {
        /// What to write
        #[arg(long, value_enum, default_value = "text")]
        kind: Kind,
        /// How many stories, chats, preferences or questions
        #[arg(long, default_value_t = 1000)]
        stories: u64,
        /// Seed of the world
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The file; must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Sums and differences, none of which a run with task.kind=arithmetic holds out
    Arithmetic {
        /// How many
        #[arg(long, default_value_t = 1000, value_parser = positive())]
        questions: usize,
        /// Most digits of a number
        #[arg(long, default_value_t = TaskConfig::default().digits)]
        digits: u32,
        /// Seed of the questions
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Write messages, as `hadal sft` learns from, rather than questions with answers
        #[arg(long)]
        chat: bool,
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
    /// JSON lines of a prompt, the answer that is chosen and the one that is rejected
    Preference,
    /// JSON lines of a prompt that can be checked, and an answer that is right
    Task,
}

impl Kind {
    /// Number `n` of the training split as it stands in the file.
    fn written(self, world: World, n: u64) -> String {
        let line = match self {
            Kind::Text => return world.story(n).text + "\n",
            Kind::Chat => messages(&chat::turns(&world.chat(n, Split::Train))),
            Kind::Preference => {
                let pair = world.preference(n, Split::Train);
                json!({ "prompt": pair.asked.question, "chosen": pair.asked.answer, "rejected": pair.rejected })
            }
            Kind::Task => {
                let quiz = world.quiz(n, Split::Train);
                json!({ "prompt": quiz.question, "answer": quiz.reference() })
            }
        };
        line.to_string()
    }
}

/// A conversation as a line has it.
fn messages(turns: &[Turn]) -> Value {
    let message = |turn: &Turn| json!({ "role": turn.role.name(), "content": turn.content });
    json!({ "messages": turns.iter().map(message).collect::<Vec<_>>() })
}

pub(super) fn run(args: DataArgs) -> Result<()> {
    match args.what {
        Some(What::World { kind, stories, seed, out }) => {
            let world = World::new(seed);
            write(&out, (0..stories).map(|n| kind.written(world, n)))
        }
        Some(What::Arithmetic { questions, digits, seed, chat, out }) => {
            let task = TaskConfig { digits, ..TaskConfig::default() };
            task.validate()?;
            let arithmetic = Arithmetic::new(&task, seed);
            write(&out, (0..questions as u64).map(|n| sum(arithmetic, n, chat)))
        }
        None => count(args),
    }
}

/// Question number `n` of the training split as it stands in the file.
fn sum(arithmetic: Arithmetic, n: u64, chat: bool) -> String {
    let (question, answer) = arithmetic.question(n, Split::Train);
    let line = match chat {
        true => messages(
            &[(Role::User, question), (Role::Assistant, answer)].map(|(role, content)| Turn::new(role, content)),
        ),
        false => json!({ "question": question, "answer": answer }),
    };
    line.to_string()
}

/// Reads all data as a run would, and says what is in it.
fn count(args: DataArgs) -> Result<()> {
    let tokenizer = super::vocabulary::load(&args.tokenizer, None)?;
    let config = DataConfig { text_field: args.text_field, token_type: args.token_type, ..DataConfig::default() };
    let corpus = Corpus::open(&args.path, &[], &config, &tokenizer, &Cache::of_user())?;
    let (totals, used, ids) = (corpus.totals(), corpus.used_ids(&tokenizer)?, tokenizer.used_ids());
    // Digits in groups are for eyes; programs read plain ones.
    let eyes = std::io::stdout().is_terminal();
    let shown = |count: u64| if eyes { grouped(count) } else { count.to_string() };
    print(format_args!("files {}", shown(corpus.files() as u64)))?;
    print(format_args!("documents {}", shown(totals.documents)))?;
    print(format_args!("bytes {}", shown(totals.bytes)))?;
    print(format_args!("tokens {}", shown(totals.tokens)))?;
    print(format_args!("bytes_per_token {:.4}", totals.bytes as f64 / totals.tokens.max(1) as f64))?;
    print(format_args!("vocabulary {ids}"))?;
    print(format_args!("vocabulary_used {used}"))?;
    print(format_args!("vocabulary_coverage {:.6}", used as f64 / ids.max(1) as f64))?;
    if config.text_field == AUTO {
        for (shape, Census { files, records, turns, empty }) in corpus.census()? {
            let [files, records, turns, empty] = [files, records, turns, empty].map(shown);
            print(format_args!("shape {shape} files {files} records {records} turns {turns} empty {empty}"))?;
        }
    }
    Ok(())
}

/// Writes lines to the new file `out`.
fn write(out: &Path, lines: impl Iterator<Item = String>) -> Result<()> {
    output(out)?;
    let file = std::fs::File::create_new(out).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::Usage(format!("{}: exists already; name a new file", out.display()))
        }
        _ => Error::write(out, e),
    })?;
    let mut file = std::io::BufWriter::new(file);
    for line in lines {
        writeln!(file, "{line}").map_err(|e| Error::io(out, e))?;
    }
    file.flush().map_err(|e| Error::io(out, e))
}
