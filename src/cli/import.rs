//! `hadal import`: a model from transformers.

use super::convert::{Conversion, convert};
use super::{existing, model_config};
use crate::config::hf::StoredType;
use crate::error::{Error, Result};
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct ImportArgs {
    /// Folder of a DeepseekV2ForCausalLM: one file or several, f32, f16 or bf16
    dir: PathBuf,
    /// Folder to write, for `hadal train --model` and all else that takes a model; it must not exist or be empty
    #[arg(long)]
    out: PathBuf,
}

pub(super) fn run(args: ImportArgs) -> Result<()> {
    let folder = existing(&args.dir)?;
    if !folder.join("config.json").is_file() {
        return Err(Error::file(folder, "holds no config.json; give a Hugging Face folder"));
    }
    let config = model_config(&folder)?;
    convert(&folder, &config, &config, &Conversion { out: &args.out, stored: StoredType::F32, largest: u64::MAX })
}
