//! `hadal serve`

use super::chat::encoder;
use super::{DeviceArgs, bytes, existing, load_weights, model_config, model_tokenizer, positive};
use crate::config::model::ModelConfig;
use crate::config::train::Precision;
use crate::error::{Error, Result};
use crate::generate::{CHUNK, Generator, GeneratorOptions};
use crate::serve::{Limits, Served, now, run as serve};
use crate::stop::Stop;
use crate::terminal::{note, printable};
use crate::train::checkpoint::with_model;
use clap::Args;
use clap::builder::RangedU64ValueParser;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// Tokens of a sequence where nothing is said about it: the cache has room for as many in every slot.
const CONTEXT: usize = 4096;
/// Most slots and most requests that may wait.
const MOST: u64 = 1 << 16;

#[derive(Args, Debug)]
pub(super) struct ServeArgs {
    /// A run folder, a checkpoint or a Hugging Face folder
    model: PathBuf,
    /// Address to listen on; there is no authentication, so that any other than this opens the model to the network
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 takes any that is free
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// What clients call the model; the folder's name by default
    #[arg(long)]
    name: Option<String>,
    /// Sequences that are generated at a time
    #[arg(long, default_value_t = 64, value_parser = sequences(1))]
    slots: usize,
    /// Sequences that may wait for a slot; more are refused with status 429
    #[arg(long, default_value_t = 256, value_parser = sequences(0))]
    queue: usize,
    #[command(flatten)]
    context: ContextArgs,
    /// Largest body of a request
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = bytes)]
    max_body: u64,
    /// What weights, activations and the cache are stored as
    #[arg(long, value_enum, default_value = "auto")]
    precision: Precision,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Reads a number of sequences.
fn sequences(least: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least..=MOST)
}

/// How long sequences get.
#[derive(Args, Clone, Debug)]
pub(super) struct ContextArgs {
    /// Tokens of prompt and answer together; by default as many as the model takes, up to 4096
    #[arg(long, value_name = "N", value_parser = positive())]
    context: Option<usize>,
}

impl ContextArgs {
    /// Tokens of a sequence of this model.
    pub(super) fn tokens(&self, config: &ModelConfig) -> Result<usize> {
        let longest = config.max_position_embeddings;
        match self.context {
            None => Ok(longest.min(CONTEXT)),
            Some(tokens) if tokens <= longest => Ok(tokens),
            Some(tokens) => {
                let reason = format!("--context {tokens} is more than the {longest} tokens that the model takes");
                Err(Error::Usage(reason))
            }
        }
    }
}

/// A generator with its weights; a plan that does not fit names the options that make it smaller.
pub(super) fn generator(
    folder: &Path,
    config: &ModelConfig,
    options: GeneratorOptions,
    (device, precision): (&DeviceArgs, Precision),
) -> Result<Generator> {
    let device = device.open(precision)?;
    let mut generator = Generator::new(config, options, &device).map_err(|error| match error {
        Error::Memory(text) => {
            let need = text.split(';').next().unwrap_or_default();
            Error::Memory(format!("{need}; lower --context, or --slots if there are several"))
        }
        other => other,
    })?;
    note(device.describe());
    load_weights(folder, config, |fill| generator.load(fill))?;
    Ok(generator)
}

pub(super) fn run(args: ServeArgs) -> Result<()> {
    let model = existing(&args.model)?;
    let name = args.name.clone().map_or_else(|| name(&args.model), Ok)?;
    let (listener, address) = listen(&args)?;
    let (tokenizer, encoder, capacity, generator) = with_model(&model, |folder| {
        let config = model_config(folder)?;
        let tokenizer = model_tokenizer(folder, &config)?;
        let encoder = encoder(folder, &tokenizer);
        let capacity = args.context.tokens(&config)?;
        let options = GeneratorOptions { slots: args.slots, capacity, chunk: CHUNK, known: tokenizer.vocab_size() };
        let generator = generator(folder, &config, options, (&args.device, args.precision))?;
        Ok((tokenizer, encoder, capacity, generator))
    })?;
    let stop = Stop::listen()?;
    if let Err(reason) = &encoder {
        note(format_args!("/v1/chat/completions will be refused: {}", printable(reason)));
    }
    note(format_args!("{} of {capacity} tokens a sequence listens on http://{address}/v1", printable(&name)));
    let served = Served { name, tokenizer, encoder, capacity, created: now() };
    let limits = Limits { places: args.slots + args.queue, max_body: args.max_body };
    serve(generator, served, listener, limits, move || stop.requested().is_some())
}

/// The name of a folder.
fn name(model: &Path) -> Result<String> {
    let whole = model.canonicalize().map_err(|e| Error::io(model, e))?;
    let name = whole.file_name().map(|name| name.to_string_lossy().into_owned());
    name.ok_or_else(|| Error::Usage("the folder has no name to call the model by; give --name".to_owned()))
}

/// The port, taken before the model is loaded so that a wrong one is known at once.
fn listen(args: &ServeArgs) -> Result<(TcpListener, std::net::SocketAddr)> {
    let ServeArgs { host, port, .. } = args;
    let fail = |e: std::io::Error| {
        Error::Usage(format!("cannot listen on {host}:{port}: {e}; choose another --port or --host"))
    };
    let listener = TcpListener::bind((host.as_str(), *port)).map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;
    if !address.ip().is_loopback() {
        note(format_args!("warning: whoever reaches {address} may use the model: there is no authentication"));
    }
    Ok((listener, address))
}
