//! `hadal dump`: numbers to hold against other programs.

use super::{DeviceArgs, existing, load_weights, model_config, output};
use crate::checkpoint::tensors::{Tensor, Values, read_tensors, write_tensors};
use crate::config::model::ModelConfig;
use crate::config::train::{OptimizerConfig, Precision, Recompute};
use crate::data::batch::{Batch, IGNORED};
use crate::error::{Error, Result};
use crate::kernels::state;
use crate::model::inputs::BatchSize;
use crate::model::params::parameters;
use crate::model::program::{FIRST_MICRO_STEP, LOGITS, Program, ProgramOptions, RESET, UPDATE};
use crate::train::checkpoint::with_model;
use crate::train::session::Session;
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
pub(super) struct DumpArgs {
    /// A run folder, a checkpoint or a Hugging Face folder
    #[arg(long)]
    model: PathBuf,
    /// safetensors with I64 `input_ids` and `labels`, both (B, T); labels[b, t] is the target of position t, -100 none
    #[arg(long)]
    input: PathBuf,
    /// safetensors to write: `logits`, `loss` and what the flags add
    #[arg(long)]
    output: PathBuf,
    /// Also `grad.NAME` for every tensor as it stands on disk
    #[arg(long)]
    grads: bool,
    /// Also `adamw_losses` and `adamw_grad_norms` of this many updates on the one batch
    #[arg(long, value_name = "N", default_value_t = 0)]
    adamw_steps: u64,
    /// Number formats
    #[arg(long, value_enum, default_value = "f32")]
    precision: Precision,
    #[command(flatten)]
    device: DeviceArgs,
}

/// The update that `--adamw-steps` repeats.
fn optimizer() -> OptimizerConfig {
    OptimizerConfig {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        clip_norm: 1.0,
        ..OptimizerConfig::default()
    }
}

pub(super) fn run(args: DumpArgs) -> Result<()> {
    output(&args.output)?;
    if matches!((args.input.canonicalize(), args.output.canonicalize()), (Ok(a), Ok(b)) if a == b) {
        return Err(Error::Usage("--output names the file of --input, which it would replace".to_owned()));
    }
    with_model(&existing(&args.model)?, |folder| dump(&args, folder))
}

/// Writes what the model in `folder` makes of the input.
fn dump(args: &DumpArgs, folder: &Path) -> Result<()> {
    let config = ModelConfig { aux_loss_alpha: 0.0, ..model_config(folder)? };
    let mut batch = read_batch(&args.input, &config)?;
    let device = args.device.open(args.precision)?;
    let options = ProgramOptions {
        size: BatchSize { batch: batch.batch, length: batch.length },
        binding_limit: device.binding_limit(),
        optimizer: Some(optimizer()),
        logit_rows: Some(batch.batch * batch.length),
        stored: device.stored(),
        recompute: Recompute::None,
    };
    let program = Program::new(&config, &parameters(&config), &options);
    let mut session = Session::new(program, &device, None)?;
    load_weights(folder, &config, |fill| session.load(fill))?;
    batch.set_weight(batch.counted());
    session.feed(&batch)?;
    session.set_keys(0, 0, 0)?;
    session.set_sequences(batch.batch)?;
    let mut tensors = logits(&mut session, &batch)?;
    session.run(RESET)?;
    session.run(FIRST_MICRO_STEP)?;
    tensors.push(("loss".to_owned(), vec![1], vec![session.metrics()?.loss() as f32]));
    if args.grads {
        gradients(&mut session, &mut tensors)?;
    }
    if args.adamw_steps > 0 {
        tensors.extend(trajectory(&mut session, args.adamw_steps)?);
    }
    write_tensors(&args.output, &tensors)
}

type Named = (String, Vec<usize>, Vec<f32>);

fn logits(session: &mut Session, batch: &Batch) -> Result<Vec<Named>> {
    let Some(slots) = session.program.logits else { return Ok(Vec::new()) };
    let rows: Vec<u32> = (0..batch.ids.len() as u32).collect();
    session.executor().upload_indices(slots.rows, &rows)?;
    session.run(LOGITS)?;
    let shape = vec![batch.batch, batch.length, session.program.config.vocab_size];
    Ok(vec![("logits".to_owned(), shape, session.read(slots.logits)?)])
}

fn gradients(session: &mut Session, tensors: &mut Vec<Named>) -> Result<()> {
    for i in 0..session.program.weights.all.len() {
        let values = session.gradient(i)?;
        let disk = session.program.weights.all[i].spec.disk.clone();
        let share = values.len() / disk.len();
        for (part, tensor) in values.chunks(share).zip(disk) {
            tensors.push((format!("grad.{}", tensor.name), tensor.shape, part.to_vec()));
        }
    }
    Ok(())
}

/// Losses before each update and gradient norms before clipping. The first gradient is there already.
fn trajectory(session: &mut Session, steps: u64) -> Result<[Named; 2]> {
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    let settings = optimizer();
    for step in 1..=steps {
        if step > 1 {
            session.run(RESET)?;
            session.run(FIRST_MICRO_STEP)?;
        }
        losses.push(session.metrics()?.loss() as f32);
        session.set_learning_rate(settings.learning_rate)?;
        session.run(UPDATE)?;
        norms.push(session.result()?[state::RESULT_NORM]);
    }
    let shape = vec![steps as usize];
    Ok([("adamw_losses".to_owned(), shape.clone(), losses), ("adamw_grad_norms".to_owned(), shape, norms)])
}

fn read_batch(path: &Path, config: &ModelConfig) -> Result<Batch> {
    let tensors = read_tensors(&existing(path)?)?;
    let integers = |name: &str| match tensors.get(name) {
        Some(Tensor { shape, values: Values::Index(values) }) if shape.len() == 2 => Ok((shape.clone(), values)),
        Some(_) => Err(Error::file(path, format!("{name} is not a matrix (B, T) of I64 or I32"))),
        None => Err(Error::file(path, format!("holds no tensor {name}"))),
    };
    let ((shape, ids), (label_shape, labels)) = (integers("input_ids")?, integers("labels")?);
    if shape != label_shape {
        return Err(Error::file(path, format!("input_ids is {shape:?} but labels is {label_shape:?}")));
    }
    if shape.contains(&0) {
        return Err(Error::file(path, "input_ids and labels are empty; give at least one token"));
    }
    if shape[1] > config.longest() {
        let (length, limit) = (shape[1], config.longest());
        return Err(Error::file(path, format!("input_ids has {length} positions, the model at most {limit}")));
    }
    config.check_pass("input_ids", shape[0].saturating_mul(shape[1]), "use fewer or shorter sequences")?;
    let token = |id: &i64| match u32::try_from(*id) {
        Ok(id) if (id as usize) < config.vocab_size => Ok(id),
        _ => Err(Error::file(path, format!("token {id} is not in 0..{}", config.vocab_size))),
    };
    let target = |id: &i64| if *id == -100 { Ok(IGNORED) } else { token(id) };
    let ids: Result<Vec<u32>> = ids.iter().map(token).collect();
    let targets: Result<Vec<u32>> = labels.iter().map(target).collect();
    Ok(Batch::new(ids?, targets?, shape[0], shape[1]))
}
