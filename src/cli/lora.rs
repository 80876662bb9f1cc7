//! The beginning of a run that trains adapters: the frozen weights that they stand beside, and where those are.

use super::origin::{self, EMBEDDINGS};
use super::{load_weights, open_weights};
use crate::checkpoint::adapters::Adapters;
use crate::checkpoint::folder::new_folder;
use crate::checkpoint::index::SINGLE;
use crate::checkpoint::weights::write_weights;
use crate::config::Config;
use crate::config::hf::{StoredType, write_own_config};
use crate::error::{Error, Result};
use crate::model::lora::is_adapter;
use crate::model::params::{Init, ParamSpec, initial, parameters, start_values};
use crate::terminal::note;
use crate::tokenizer::Tokenizer;
use crate::train::place::BASE;
use crate::train::session::Session;
use std::path::{Path, PathBuf};

/// Loads the frozen weights in `folder`, and adapters that change nothing yet.
pub(super) fn first_weights(
    out: &Path,
    folder: &Path,
    config: &Config,
    tokenizer: &Tokenizer,
    session: &mut Session,
) -> Result<()> {
    let base = base(out, folder, config, tokenizer)?;
    let start = start_values(config.train.seed);
    load_weights(&base, &config.model, |fill| {
        session.load(|spec, values| if is_adapter(spec) { start(spec, values) } else { fill(spec, values) })
    })?;
    session.adapters = Some(Adapters::new(&base, &config.lora.explicit(&config.model))?);
    Ok(())
}

/// The folder that holds just the weights of `config`: `folder`, unless it lacks rows for new tokens or holds adapters
/// itself. Then one inside the run folder `out`, which is written for it, since a base is read whenever its adapters
/// are.
fn base(out: &Path, folder: &Path, config: &Config, tokenizer: &Tokenizer) -> Result<PathBuf> {
    let model = &config.model;
    let own = origin::grown(folder, model)?;
    let weights = open_weights(folder, &own)?;
    if own.vocab_size == model.vocab_size && weights.adapters().is_none() {
        return Ok(folder.to_owned());
    }
    let base = std::path::absolute(out.join(BASE)).map_err(|e| Error::io(out, e))?;
    if base.is_dir() {
        return Ok(base); // a folder appears as a whole
    }
    note(format_args!("the frozen weights, with rows for {} tokens, go to {}", model.vocab_size, base.display()));
    new_folder(&base, |new| {
        write_weights(&new.join(SINGLE), &parameters(model), StoredType::F32, |spec, values| {
            values.resize(spec.elements(), 0.0);
            origin::fill(&own, spec, values, &mut |spec, values| weights.load(spec, values))?;
            tell_apart(own.vocab_size, spec, values, config.train.seed);
            Ok(())
        })?;
        write_own_config(new, model, StoredType::F32)?;
        tokenizer.write_hf(new, model.max_position_embeddings, model.eos_token_id)
    })?;
    Ok(base)
}

/// Moves the rows of new tokens, which stay as they are from then on, from the mean to where rows usually lie: by
/// normal numbers times the spread of each column. Equal rows would be equally probable for ever.
fn tell_apart(rows: usize, spec: &ParamSpec, values: &mut [f32], seed: u64) {
    if !EMBEDDINGS.contains(&spec.name.as_str()) || spec.shape[0] <= rows {
        return;
    }
    let width = spec.shape[1];
    let (old, new) = values.split_at_mut(rows * width);
    let moves = ParamSpec { shape: vec![spec.shape[0] - rows, width], init: Init::Normal(1.0), ..spec.clone() };
    let moves = initial(&moves, seed);
    let mut squares = vec![0.0; width];
    for row in old.chunks(width) {
        let away = row.iter().zip(&*new).map(|(&x, &mean)| f64::from(x) - f64::from(mean));
        squares.iter_mut().zip(away).for_each(|(sum, away)| *sum += away * away);
    }
    let spreads: Vec<f64> = squares.into_iter().map(|sum: f64| (sum / rows as f64).sqrt()).collect();
    for (row, moves) in new.chunks_mut(width).zip(moves.chunks(width)) {
        for ((x, &step), spread) in row.iter_mut().zip(moves).zip(&spreads) {
            *x = (f64::from(*x) + f64::from(step) * spread) as f32;
        }
    }
}
