//! Numbers that are infinite or NaN, put by their bits into one place after another of an update: it is skipped,
//! nothing that lasts changes by a bit, and the report names the place.

use super::hooked::{Call, Hook, Hooked};
use super::{common, runs};
use hadal::backend::Device;
use hadal::config::Config;
use hadal::config::schedule::{ScheduleKind, Warmup};
use hadal::config::train::OnNonFinite;
use hadal::data::batch::Batch;
use hadal::error::Result;
use hadal::graph::{Dtype, Tensor};
use hadal::kernels::Access;
use hadal::kernels::state::{RESULT_CORRECTION1, RESULT_FINITE, RESULT_SKIPPED, STATE_LEARNING_RATE};
use hadal::model::params::start_values;
use hadal::model::program::{FIRST_MICRO_STEP, MICRO_STEP, Program, RESET, UPDATE};
use hadal::train::checkpoint::Numerics;
use hadal::train::diagnosis::{self, Finding};
use hadal::train::journal::{Journal, read_rows};
use hadal::train::moments::MomentValues;
use hadal::train::place::Place;
use hadal::train::rows::Row;
use hadal::train::session::Session;
use hadal::train::start::{self, Machine, Source};
use hadal::train::trainer::{Outcome, Trainer};
use hadal::train::window::{weigh, window};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

/// Where a number goes bad: after a dispatch of the first micro-step, in a tensor that it wrote.
#[derive(Clone, Copy, Debug)]
struct Poison {
    step: usize,
    tensor: Tensor,
    element: usize,
    bits: u32,
}

/// NaN, a NaN with other bits, both infinities.
const BAD: [u32; 4] = [0x7fc0_0000, 0xff80_0001, 0x7f80_0000, 0xff80_0000];

/// What the poison of a session is: none, or this.
type Dose = Rc<Cell<Option<Poison>>>;

/// Three layers, the first dense; every expert gets tokens.
fn config() -> Config {
    let mut config = runs::config(9);
    (config.model.num_hidden_layers, config.model.n_routed_experts) = (3, 4);
    config
}

fn poisoned(config: &Config, device: &Device, dose: Dose, before: Hook) -> Session {
    let program = runs::program(config, device);
    let first = program.recording(FIRST_MICRO_STEP);
    let inner = device.executor(&program.tensors, &program.recordings, None).unwrap();
    let lengths = Some(program.recordings.iter().map(|recording| recording.steps.len()).collect());
    let after = move |call: &Call<'_>, inner: &mut dyn hadal::graph::Executor| {
        let (Call::One(recording, step), Some(poison)) = (call, dose.get()) else { return Ok(()) };
        if (*recording, *step) == (first, poison.step) {
            let mut values = inner.download(poison.tensor)?;
            values[poison.element] = f32::from_bits(poison.bits);
            inner.upload(poison.tensor, &values)?;
        }
        Ok(())
    };
    Session::on(program, Box::new(Hooked { inner, before, after: Box::new(after), lengths })).unwrap()
}

/// Every dispatch of the first micro-step with each tensor of floats that it finishes.
fn places(program: &Program) -> Vec<(usize, Tensor)> {
    let steps = &program.recordings[program.recording(FIRST_MICRO_STEP)].steps;
    let mut found = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        if steps.get(i + 1).is_some_and(|next| next.part > 0) {
            continue;
        }
        let written = step.uses().filter(|&(_, access)| access != Access::Read).map(|(tensor, _)| tensor);
        found.extend(written.filter(|&t| program.tensors.info(t).dtype == Dtype::F32).map(|tensor| (i, tensor)));
    }
    found
}

/// Bits of everything that lasts: parameters, moments, and the words that stay, but for those that say what happened.
fn lasting(session: &mut Session) -> Vec<u32> {
    let mut all = session.result().unwrap()[RESULT_CORRECTION1..].to_vec();
    for i in 0..session.program.weights.all.len() {
        all.extend(session.parameter(i).unwrap());
        let MomentValues::Whole(moments) = session.moments(i).unwrap() else { panic!("of 32 bits") };
        all.extend(moments.concat());
    }
    all.into_iter().map(f32::to_bits).collect()
}

fn prepare(session: &mut Session, batch: &Batch) {
    session.run(RESET).unwrap();
    session.set_sequences(batch.batch).unwrap();
    session.set_learning_rate(1e-2).unwrap();
    session.set_keys(7, 1, 0).unwrap();
    session.feed(batch).unwrap();
}

fn update(session: &mut Session, batch: &Batch, first: &str) {
    prepare(session, batch);
    session.run(first).unwrap();
    session.run(UPDATE).unwrap();
}

fn diagnose(session: &mut Session, batch: &Batch) -> Option<Finding> {
    prepare(session, batch);
    let (program, executor) = session.parts();
    let found = diagnosis::before(program, executor).unwrap();
    let found = found.or_else(|| diagnosis::during(program, executor, FIRST_MICRO_STEP).unwrap());
    diagnosis::clear_gradients(program, executor).unwrap();
    found
}

/// A session with moments, and what it lasts on.
struct Patient {
    session: Session,
    dose: Dose,
    batch: Batch,
    values: Vec<(Vec<f32>, MomentValues)>,
    result: Vec<f32>,
    before: Vec<u32>,
    /// After an update without poison.
    healthy: Vec<u32>,
}

impl Patient {
    fn new(device: &Device) -> Patient {
        let (config, dose) = (config(), Dose::default());
        let (_, dataset) = runs::text(&config);
        let mut batch = window(&config, &dataset, 3).unwrap();
        weigh(&mut batch, config.train.loss_reduction);
        let batch = batch.remove(0);
        let mut session = poisoned(&config, device, dose.clone(), Box::new(|_, _| Ok(())));
        session.load(start_values(5)).unwrap();
        update(&mut session, &batch, MICRO_STEP);
        assert_eq!(diagnose(&mut session, &batch), None, "nothing is bad yet");
        let number = session.program.weights.all.len();
        let values = (0..number).map(|i| (session.parameter(i).unwrap(), session.moments(i).unwrap())).collect();
        let (result, before) = (session.result().unwrap(), lasting(&mut session));
        update(&mut session, &batch, FIRST_MICRO_STEP);
        let healthy = lasting(&mut session);
        assert!(healthy != before);
        let mut patient = Patient { session, dose, batch, values, result, before, healthy };
        patient.restore();
        patient
    }

    fn restore(&mut self) {
        for (i, (parameter, moments)) in self.values.iter().enumerate() {
            self.session.load_parameter(i, parameter).unwrap();
            self.session.load_moments(i, moments).unwrap();
        }
        self.session.load_result(&self.result).unwrap();
        assert!(lasting(&mut self.session) == self.before);
    }

    /// Makes the update. If it was skipped, nothing that lasts may be other than `before`.
    fn caught(&mut self, batch: &Batch, before: &[u32], what: &str) -> Fate {
        update(&mut self.session, batch, FIRST_MICRO_STEP);
        let (result, after) = (self.session.result().unwrap(), lasting(&mut self.session));
        if result[RESULT_FINITE] == 1.0 {
            return if after == self.healthy { Fate::Unread } else { Fate::Swallowed };
        }
        assert_eq!(result[RESULT_SKIPPED], self.result[RESULT_SKIPPED] + 1.0, "{what}");
        assert!(after == before, "{what}: something changed");
        Fate::Caught
    }

    /// Poisons a dispatch.
    fn dispatch(&mut self, poison: Poison) -> Fate {
        let (before, batch) = (self.before.clone(), self.batch.clone());
        let name = self.session.program.tensors.info(poison.tensor).name.clone();
        let what = format!("{name} after dispatch {}, {:08x}", poison.step, poison.bits);
        self.dose.set(Some(poison));
        let caught = self.caught(&batch, &before, &what);
        let found = diagnose(&mut self.session, &batch).unwrap_or_else(|| panic!("{what}: not found"));
        let expected = name.strip_prefix("grad.").unwrap_or(&name);
        assert_eq!((found.tensor.as_str(), found.index), (expected, poison.element), "{what}: {found}");
        self.dose.set(None);
        self.restore();
        caught
    }

    /// Poisons a parameter.
    fn parameter(&mut self, i: usize, element: usize, bits: u32) {
        let spec = self.session.program.weights.all[i].spec.clone();
        let mut values = self.values[i].0.clone();
        values[element] = f32::from_bits(bits);
        self.session.load_parameter(i, &values).unwrap();
        let (before, batch) = (lasting(&mut self.session), self.batch.clone());
        assert_eq!(self.caught(&batch, &before, &spec.name), Fate::Caught, "{}, number {element}", spec.name);
        let found = diagnose(&mut self.session, &batch).unwrap();
        assert_eq!((found.tensor.as_str(), found.index), (spec.name.as_str(), element));
        let of_expert = spec.shape.len() == 3;
        assert_eq!(found.expert, of_expert.then(|| element / (spec.shape[1] * spec.shape[2])));
        self.restore();
    }

    /// Poisons the weight of a target.
    fn data(&mut self, element: usize, bits: u32) {
        let (before, mut batch) = (self.before.clone(), self.batch.clone());
        batch.loss_weights[element] = f32::from_bits(bits);
        assert_eq!(self.caught(&batch, &before, "data"), Fate::Caught);
        assert_eq!(diagnose(&mut self.session, &batch).unwrap().tensor, "loss_weights");
        self.restore();
    }
}

/// What became of a bad number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The update was skipped.
    Caught,
    /// Nothing reads that number: the update is that of a healthy session, bit for bit.
    Unread,
    /// An update was made of it that is another one.
    Swallowed,
}

/// Infinities that mean something where they stand: a logit of a probability of 0, and a sum so large that backward
/// takes every share of it for 0. Only a fault of the memory can put one there alone, since a pass that computes one
/// has NaN beside it; the update is then made of a gradient that is finite. NaN in these places is caught.
const MEANINGFUL: [&str; 2] = ["log_sum_exp inf", "logits -inf"];

/// Poisons `count` places that matter, a fifth of them parameters, on every device.
fn is_caught(count: usize, seed: u64) {
    let mut devices = vec![runs::cpu()];
    devices.extend(common::gpu().map(|gpu| runs::gpu(&gpu)));
    for device in &devices {
        let (mut patient, mut rng) = (Patient::new(device), rand_chacha::ChaCha8Rng::seed_from_u64(seed));
        let number = patient.session.program.weights.all.len();
        let (mut caught, mut unread, mut swallowed) = (0, Vec::new(), Vec::new());
        for n in 0..count / 5 {
            let i = rng.random_range(0..number);
            let spec = &patient.session.program.weights.all[i].spec;
            // Of the embedding a row that the batch reads.
            let element = match spec.name.contains("embed_tokens") {
                true => patient.batch.ids[0] as usize * spec.shape[1] + rng.random_range(0..spec.shape[1]),
                false => rng.random_range(0..spec.elements()),
            };
            patient.parameter(i, element, BAD[n % 4]);
            caught += 1;
        }
        patient.data(3, BAD[0]);
        caught += 1;
        let mut places = places(&patient.session.program);
        places.shuffle(&mut rng);
        for (n, (step, tensor)) in places.into_iter().cycle().enumerate() {
            if caught >= count {
                break;
            }
            let (bits, name) = (BAD[n % 4], patient.session.program.tensors.info(tensor).name.clone());
            let elements = patient.session.program.tensors.elements(tensor);
            let poison = Poison { step, tensor, element: rng.random_range(0..elements), bits };
            match patient.dispatch(poison) {
                Fate::Caught => caught += 1,
                Fate::Unread => unread.push(name),
                Fate::Swallowed => swallowed.push(format!("{name} {}", f32::from_bits(bits))),
            }
        }
        assert!(swallowed.iter().all(|what: &String| MEANINGFUL.contains(&what.as_str())), "{swallowed:?}");
        println!("{} infinities taken at their word: {swallowed:?}", swallowed.len());
        println!("{caught} caught on {}; read by nothing, so that nothing changed: {unread:?}", device.describe());
    }
}

#[test]
fn a_bad_number_anywhere_in_an_update_is_caught_and_named() {
    is_caught(12, 1);
}

#[test]
#[ignore = "takes minutes: the full number of places"]
fn a_bad_number_in_any_of_two_hundred_places_is_caught_and_named() {
    is_caught(200, 2);
}

/// A device whose gradient of one parameter is bad where the learning rate is above `limit`.
pub struct Sick<'a> {
    pub config: &'a Config,
    pub limit: f32,
}

impl Source for Sick<'_> {
    fn machine(&mut self) -> Result<Machine> {
        let dose = Dose::default();
        let program = runs::program(self.config, &runs::cpu());
        let gradient = program.weights.get("model.layers.1.mlp.experts.up_proj.weight").parts[0].1;
        let tensor = program.tensors.gradient_of(gradient).unwrap();
        let step = places(&program).into_iter().find(|place| place.1 == tensor).unwrap().0;
        let poison = Poison { step, tensor, element: 2 * 32 * 16 + 5, bits: BAD[0] };
        let (state, limit, dose_of_session) = (program.inputs.state, self.limit, dose.clone());
        let before = move |call: &Call<'_>, _: &mut dyn hadal::graph::Executor| {
            if let Call::Words(tensor, words) = call
                && *tensor == state
            {
                dose.set((f32::from_bits(words[STATE_LEARNING_RATE]) > limit).then_some(poison));
            }
            Ok(())
        };
        let session = poisoned(self.config, &runs::cpu(), dose_of_session, Box::new(before));
        Ok(Machine { session, sampler: None })
    }

    fn first_weights(&mut self, session: &mut Session) -> Result<()> {
        session.load(start_values(self.config.train.seed))
    }
}

fn train(config: &Config, limit: f32, run: &Path) -> Result<Outcome> {
    train_as(config, limit, run, None)
}

/// The same from a checkpoint with another memory of what was not finite.
fn train_as(config: &Config, limit: f32, run: &Path, numerics: Option<Numerics>) -> Result<Outcome> {
    let (text, resume, mut source) = (runs::text(config), run.exists(), Sick { config, limit });
    let mut machine = source.machine()?;
    let mut journal = Journal::create(Place::of(run, resume)?, config)?;
    let mut state = match resume {
        true => start::resume(&mut source, config, &mut machine.session, &mut journal, &mut |_| ())?,
        false => start::begin(&mut source, config, &mut machine.session)?,
    };
    state.numerics = numerics.unwrap_or(state.numerics);
    Trainer::new(config, &mut source, machine, &text.1, &text.0, journal, state)?.run(false)
}

fn rates(run: &Path) -> Vec<f64> {
    let of = |row: Row| if let Row::Train(row) = row { Some(row.lr) } else { None };
    read_rows(run).unwrap().into_iter().filter_map(of).collect()
}

#[test]
fn updates_in_a_row_that_are_not_finite_stop_the_run_and_the_error_names_what_went_bad() {
    let folder = tempfile::tempdir().unwrap();
    for limit in [1, 3] {
        let (mut config, run) = (config(), folder.path().join(limit.to_string()));
        config.train.non_finite_limit = limit;
        let error = train(&config, 0.0, &run).unwrap_err();
        assert_eq!(error.exit_code(), 7);
        let text = error.to_string();
        let name = "the gradient of model.layers.1.mlp.experts.up_proj.weight, number 1029";
        for words in [&format!("{limit} updates in a row"), name, "layer 1, expert 2", "--resume"] {
            assert!(text.contains(words), "{words:?} is not in: {text}");
        }
        assert_eq!(rates(&run).len(), limit as usize);
    }
}

#[test]
fn a_roll_back_goes_on_from_the_newest_checkpoint_at_a_lower_rate_which_outlives_a_resumption() {
    let folder = tempfile::tempdir().unwrap();
    let [run, again] = ["run", "again"].map(|name| folder.path().join(name));
    let mut config = config();
    (config.train.on_non_finite, config.train.non_finite_limit) = (OnNonFinite::RollBack, 3);
    (config.train.checkpoint_interval, config.train.eval_interval) = (2, 0);
    (config.schedule.kind, config.schedule.warmup_steps) = (ScheduleKind::Constant, Warmup::Steps(4));
    let peak = config.optimizer.learning_rate;
    // The fifth update, at the peak, is the first that is bad; the seventh brings the run back to the sixth.
    train(&config, 0.9 * peak as f32, &run).unwrap();
    let log = std::fs::read_to_string(run.join("log.txt")).unwrap();
    assert!(log.contains("step 6: rolled back (1 of 3); learning rate times 0.5 from here"), "{log}");
    let found = rates(&run);
    assert_eq!(found.len(), 9, "{found:?}");
    assert_eq!(found[4..], [peak, peak, 0.5 * peak, 0.5 * peak, 0.5 * peak]);
    // Resumed in the middle of the bad updates, and again after the roll-back.
    for steps in [6, 8, 9] {
        config.train.steps = steps;
        train(&config, 0.9 * peak as f32, &again).unwrap();
    }
    assert_eq!(rates(&again), found);
    let [a, b] = [&run, &again].map(|run| runs::evidence(run, 9, Vec::new()));
    assert_eq!(runs::difference(&a, &b), None);
    // Nothing of the bad updates, nor of the search in them, is left in what goes on.
    for step in ["step-00000008", "step-00000009"] {
        std::fs::remove_dir_all(again.join("checkpoints").join(step)).unwrap();
    }
    let numerics = Numerics { in_a_row: 0, roll_backs: 1, rate: 0.5 };
    train_as(&config, 1.0, &again, Some(numerics)).unwrap();
    assert_eq!(runs::difference(&a, &runs::evidence(&again, 9, Vec::new())), None);
}

#[test]
fn the_fourth_time_a_run_stops_instead_of_rolling_back() {
    let folder = tempfile::tempdir().unwrap();
    let (mut config, run) = (config(), folder.path().join("run"));
    (config.train.on_non_finite, config.train.non_finite_limit) = (OnNonFinite::RollBack, 2);
    let error = train(&config, 0.0, &run).unwrap_err();
    assert_eq!(error.exit_code(), 7);
    assert!(error.to_string().contains("after 3 roll-backs"), "{error}");
    let log = std::fs::read_to_string(run.join("log.txt")).unwrap();
    assert_eq!(log.matches("rolled back").count(), 3, "{log}");
}
