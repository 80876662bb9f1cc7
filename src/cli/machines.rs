//! What a run computes with, made anew where its device failed, and the weights that it begins with.

use super::advice::advice;
use super::beside::Beside;
use super::fit::{self, Target};
use super::{Fill, load_weights, lora, origin};
use crate::backend::Device;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::generate::Generator;
use crate::graph::plan::Plan;
use crate::model::goal::is_head;
use crate::model::params::start_values;
use crate::reward::model::Scorer;
use crate::tokenizer::Tokenizer;
use crate::train::session::Session;
use crate::train::start::{Machine, Source};
use std::path::Path;

/// The device of a run, and what it computes with there.
pub(super) struct Machines<'a> {
    pub config: &'a Config,
    /// The configuration before anything was decided for this device.
    pub open: &'a Config,
    /// The run folder.
    pub out: &'a Path,
    pub tokenizer: &'a Tokenizer,
    pub device: Device,
    pub target: Target,
    /// Bytes that all may take.
    pub limit: Option<u64>,
    pub beside: Beside,
    pub profile: bool,
    /// Whether a machine was made: another wants the device opened anew.
    pub used: bool,
}

impl Machines<'_> {
    /// The largest micro-batch that there is room for, by trying.
    fn advice(&self) -> String {
        // Without a limit nothing but the user decides what is recomputed.
        let config = if self.limit.is_some() { self.open } else { self.config };
        let staging = |plan: &Plan| self.device.staging(plan);
        let room = |tried: &Config, plan: &Plan| {
            let within = |limit| self.beside.has_room(tried, plan, limit, &staging);
            self.limit.is_none_or(within) && self.device.has_room(plan)
        };
        advice(config, self.target, &room)
    }
}

impl Machines<'_> {
    /// Hands what fills a parameter from the weights in `folder` to `load`; heads of one output begin anew.
    fn load(&self, folder: &Path, load: impl FnOnce(&mut Fill<'_>) -> Result<()>) -> Result<()> {
        let config = self.config;
        let (own, fresh) = (origin::grown(folder, &config.model)?, start_values(config.train.seed));
        load_weights(folder, &own, |fill| {
            load(&mut |spec, values| match is_head(spec) {
                true => fresh(spec, values),
                false => origin::fill(&own, spec, values, fill),
            })
        })
    }
}

impl Source for Machines<'_> {
    fn machine(&mut self) -> Result<Machine> {
        if std::mem::replace(&mut self.used, true) {
            self.device = self.device.reopen()?;
        }
        let (device, target) = (&self.device, self.target);
        let program = fit::program(self.config, target);
        let cap = self.beside.cap(self.config, self.limit, &|plan| device.staging(plan));
        let mut session = Session::new(program, device, cap).map_err(|e| match e {
            Error::Memory(text) => Error::Memory(format!("{text}; {}", self.advice())),
            e => e,
        })?;
        if self.profile {
            session.executor().profile()?;
        }
        let sampler =
            self.beside.samples.map(|options| Generator::new(&self.config.model, options, device)).transpose()?;
        Ok(Machine { session, sampler })
    }

    fn scorer(&mut self) -> Result<Option<Scorer>> {
        self.beside.judge.as_ref().map(|judge| judge.open(&self.config.train, &self.device)).transpose()
    }

    /// Beside adapters the frozen weights are the reference.
    fn reference(&mut self, session: &mut Session) -> Result<()> {
        let (config, Some(reference)) = (self.config, session.program.reference.clone()) else { return Ok(()) };
        let Some(folder) = config.train.model.as_ref().filter(|_| !config.lora.is_on()) else { return Ok(()) };
        self.load(folder, |fill| reference.load(session.executor(), fill))
    }

    fn first_weights(&mut self, session: &mut Session) -> Result<()> {
        let config = self.config;
        let Some(folder) = &config.train.model else {
            return session.load(start_values(config.train.seed));
        };
        if config.lora.is_on() {
            return lora::first_weights(self.out, folder, config, self.tokenizer, session);
        }
        self.load(folder, |fill| session.load(fill))
    }
}
