//! `hadal export`: a model for transformers, or adapters for PEFT.

use super::convert::{Conversion, convert, convert_adapters};
use super::{bytes, existing, model_config};
use crate::checkpoint::adapters::Adapters;
use crate::config::hf::{StoredType, check_representable, nearest};
use crate::error::{Error, Result};
use crate::terminal::note;
use crate::train::checkpoint::with_model;
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
pub(super) struct ExportArgs {
    /// A run folder, a checkpoint or a Hugging Face folder
    model: PathBuf,
    /// Folder to write; it must not exist or be empty
    #[arg(long)]
    out: PathBuf,
    /// Number type of the weights; f32 gives the very same logits
    #[arg(long, value_enum, default_value = "f32")]
    dtype: StoredType,
    /// Largest file of weights; where more are needed, an index names them
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "2GiB")]
    shard_size: u64,
    /// Of a run with adapters: add them to the weights and write a whole model; without this, a folder for PEFT
    #[arg(long)]
    merge: bool,
    /// Export also what transformers will compute otherwise, and say what that is
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: ExportArgs) -> Result<()> {
    with_model(&existing(&args.model)?, |folder| export(&args, folder))
}

/// Writes what is in `folder`.
fn export(args: &ExportArgs, folder: &Path) -> Result<()> {
    let source = model_config(folder)?;
    let adapters = Adapters::beside(folder)?;
    if args.merge && adapters.is_none() {
        let reason = format!("{} holds whole weights and no adapters; leave --merge out", folder.display());
        return Err(Error::Usage(reason));
    }
    let config = if args.force {
        let (near, lines) = nearest(&source)?;
        lines.iter().for_each(|line| note(format_args!("warning: {line}")));
        near
    } else {
        let (near, hint) = (nearest(&source), "; --force exports it all the same, and says what will differ");
        check_representable(&source).map_err(|e| match e {
            Error::Config { key, reason } if near.is_ok() => Error::config(key, reason + hint),
            e => e,
        })?;
        source.clone()
    };
    let to = Conversion { out: &args.out, stored: args.dtype, largest: args.shard_size };
    match adapters.filter(|_| !args.merge) {
        Some(adapters) => convert_adapters(folder, &source, &adapters, &to),
        None => convert(folder, &source, &config, &to),
    }
}
