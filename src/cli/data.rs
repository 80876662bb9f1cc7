//! `hadal data`

use super::output;
use crate::data::world::World;
use crate::error::{Error, Result};
use clap::{Args, Subcommand};
use std::io::Write;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct DataArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Stories of the embedded world
    World {
        /// What to write
        #[arg(long, value_enum, default_value = "text")]
        kind: Kind,
        /// Stories
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
}

pub(super) fn run(args: DataArgs) -> Result<()> {
    let What::World { kind: Kind::Text, stories, seed, out } = args.what;
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
        let story = world.story(n);
        writeln!(file, "{}\n", story.text).map_err(|e| Error::io(&out, e))?;
    }
    file.flush().map_err(|e| Error::io(&out, e))
}
