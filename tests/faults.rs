//! Devices that fail in the middle of a run: it opens them again, goes on from its newest checkpoint, and ends in the
//! bytes of a run that nothing happened to.

mod common;
#[path = "common/runs.rs"]
mod runs;
#[path = "faults/drawn.rs"]
mod drawn;
#[path = "faults/hooked.rs"]
mod hooked;
#[path = "faults/lost.rs"]
mod lost;
#[path = "faults/pairs.rs"]
mod pairs;
#[path = "faults/poison.rs"]
mod poison;
#[path = "faults/spikes.rs"]
mod spikes;

use hadal::backend::Device;
use hadal::config::Config;
use hadal::data::Dataset;
use hadal::error::{Error, Result};
use hadal::gpu::device::Gpu;
use hadal::graph::Executor;
use hadal::model::params::start_values;
use hadal::tokenizer::Tokenizer;
use hadal::train::journal::{Journal, read_rows};
use hadal::train::place::Place;
use hadal::train::session::Session;
use hadal::train::start::{self, Machine, Source};
use hadal::train::trainer::{Outcome, Trainer};
use hooked::{Call, Hooked};
use rand::{RngExt, SeedableRng};
use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Duration;

const STEPS: u64 = 9;

/// A text that an update's four rows go through about half: epochs end within updates and between micro-steps.
static TEXT: LazyLock<tempfile::NamedTempFile> = LazyLock::new(|| {
    let file = tempfile::Builder::new().suffix(".txt").tempfile().unwrap();
    let text: String = (0..40).map(|i| format!("{}{} ", ["rook", "owl", "ant"][i % 3], i * i % 17)).collect();
    std::fs::write(&file, &text[..152]).unwrap();
    file
});

/// Updates of two micro-steps, with checkpoints and validations between.
fn config() -> Config {
    let mut config = runs::config(STEPS);
    config.data.path = vec![TEXT.path().to_owned()];
    config.data.tokenizer = "byte".to_owned();
    config.data.val_fraction = 0.2;
    config.model.resid_dropout = 0.1;
    config.train.checkpoint_interval = 3;
    config.train.eval_interval = 4;
    config.train.keep = 2;
    config
}

/// A device that fails at some moments.
struct Unlucky<'a> {
    config: &'a Config,
    device: Device,
    calls: Rc<Cell<u64>>,
    moments: Rc<Vec<u64>>,
    opened: u32,
}

impl Source for Unlucky<'_> {
    fn machine(&mut self) -> Result<Machine> {
        self.device = self.device.reopen()?; // also the first time: others hold the one that was handed in
        self.opened += 1;
        let program = runs::program(self.config, &self.device);
        let gpu = if let Device::Gpu { gpu, .. } = &self.device { Some(gpu.clone()) } else { None };
        let (inner, after) = (
            self.device.executor(&program.tensors, &program.recordings, None)?,
            Box::new(|_: &Call<'_>, _: &mut dyn Executor| Ok(())),
        );
        let (calls, moments, mut gone) = (self.calls.clone(), self.moments.clone(), false);
        let before = Box::new(move |_: &Call<'_>, _: &mut dyn Executor| {
            calls.set(calls.get() + 1);
            match &gpu {
                Some(gpu) if moments.contains(&calls.get()) => gpu.device.destroy(),
                Some(_) => {}
                None => gone |= moments.contains(&calls.get()),
            }
            if gone { Err(Error::Device("the processor fell out".to_owned())) } else { Ok(()) }
        });
        let session = Session::on(program, Box::new(Hooked { inner, before, after, lengths: None }))?;
        Ok(Machine { session, sampler: None })
    }

    fn first_weights(&mut self, session: &mut Session) -> Result<()> {
        session.load(start_values(self.config.train.seed))
    }

    fn reference(&mut self, session: &mut Session) -> Result<()> {
        runs::load_reference(self.config, session)
    }
}

/// Calls before the trainer has taken over are counted from here: no moment is there.
const BEFORE: u64 = 1 << 40;

type Text = (Tokenizer, Dataset);

/// Trains in `run`, or goes on there, losing the device at the given calls. Also gives the number of calls and of
/// devices.
fn train(
    config: &Config,
    device: &Device,
    (tokenizer, dataset): &Text,
    run: &Path,
    moments: Vec<u64>,
) -> (Result<Outcome>, u64, u32) {
    let (calls, moments) = (Rc::new(Cell::new(BEFORE)), Rc::new(moments));
    let device = device.reopen().unwrap();
    let mut source = Unlucky { config, device, calls: calls.clone(), moments: Rc::new(Vec::new()), opened: 0 };
    source.moments = moments;
    let resume = run.exists();
    let begun = |source: &mut Unlucky<'_>| {
        let mut machine = source.machine()?;
        let mut journal = Journal::create(Place::of(run, resume)?, config)?;
        let state = match resume {
            true => start::resume(source, config, &mut machine.session, &mut journal, &mut |_| ())?,
            false => start::begin(source, config, &mut machine.session)?,
        };
        calls.set(0); // from here on the trainer answers for what happens
        Ok((machine, journal, state))
    };
    let outcome = begun(&mut source).and_then(|(machine, journal, state)| {
        Trainer::new(config, &mut source, machine, dataset, tokenizer, journal, state)?.run(false)
    });
    (outcome, calls.get(), source.opened)
}

fn devices() -> Vec<Device> {
    let mut devices = vec![runs::cpu()];
    devices.extend(common::gpu().map(|gpu| runs::gpu(&gpu)));
    devices
}

/// What a run leaves; its rows must be those of one pass through it, none twice and none missing.
fn evidence(run: &Path) -> Vec<(String, Vec<u8>)> {
    runs::evidence(run, STEPS, read_rows(run).unwrap())
}

/// Loses the device at `count` moments, a run each, and compares the ends.
fn ends_alike(device: &Device, count: usize, seed: u64) {
    let (config, folder) = (config(), tempfile::tempdir().unwrap());
    let text = runs::text(&config);
    let whole = folder.path().join("whole");
    let (outcome, calls, _) = train(&config, device, &text, &whole, Vec::new());
    outcome.unwrap();
    let expected = evidence(&whole);
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    for i in 0..count {
        // Now and then twice in one run, the second time perhaps while the run goes back.
        let mut moments = vec![rng.random_range(1..=calls)];
        if i % 4 == 3 {
            moments.push(moments[0] + rng.random_range(1..=40));
        }
        let run = folder.path().join(format!("run-{i}"));
        let (outcome, _, opened) = train(&config, device, &text, &run, moments.clone());
        assert_eq!(outcome.unwrap().steps, STEPS, "{moments:?} of {calls} on {}", device.describe());
        assert!(opened >= 2, "{moments:?}: the device was never lost");
        assert_eq!(runs::difference(&evidence(&run), &expected), None, "{moments:?} of {calls}");
        std::fs::remove_dir_all(&run).unwrap();
    }
    println!("{count} of {count} moments of {calls} calls on {}: the same bytes", device.describe());
}

#[test]
fn a_run_whose_device_is_lost_ends_in_the_bytes_of_one_whose_device_is_not() {
    // A software adapter takes a second to open.
    devices().iter().zip([4, 2]).for_each(|(device, count)| ends_alike(device, count, 1));
}

#[test]
#[ignore = "takes minutes: the full number of moments"]
fn a_run_whose_device_is_lost_at_any_of_fifty_moments_ends_in_the_same_bytes() {
    devices().iter().for_each(|device| ends_alike(device, 50, 2));
}

#[test]
fn a_device_that_keeps_failing_ends_the_run_with_exit_code_4_and_leaves_its_checkpoints() {
    for (retries, device) in [(0, runs::cpu()), (2, runs::cpu())] {
        let (mut config, folder) = (config(), tempfile::tempdir().unwrap());
        config.train.device_retries = retries;
        let text = runs::text(&config);
        let (whole, run) = (folder.path().join("whole"), folder.path().join("run"));
        let (outcome, calls, _) = train(&config, &device, &text, &whole, Vec::new());
        outcome.unwrap();
        let (outcome, _, opened) = train(&config, &device, &text, &run, (calls / 2..3 * calls).collect());
        let error = outcome.unwrap_err();
        assert_eq!(error.exit_code(), 4, "{error}");
        assert_eq!(opened, 1 + retries);
        let log = std::fs::read_to_string(run.join("log.txt")).unwrap();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("opening the device again")).collect();
        assert_eq!(lines.len() as u32, retries, "{log}");
        assert!(retries == 0 || error.to_string().contains(&format!("train.device_retries={retries}")), "{error}");
        // By hand it goes on as ever.
        let (outcome, ..) = train(&config, &device, &text, &run, Vec::new());
        outcome.unwrap();
        assert_eq!(runs::difference(&evidence(&run), &evidence(&whole)), None);
    }
}

/// Stops runs for good at `count` random calls, up to four a run, each time in what is left of it; lets them end.
fn resumes_alike(device: &Device, count: usize, seed: u64) {
    let (mut config, folder) = (config(), tempfile::tempdir().unwrap());
    config.train.device_retries = 0;
    let text = runs::text(&config);
    let (whole, run) = (folder.path().join("whole"), folder.path().join("run"));
    let (outcome, calls, _) = train(&config, device, &text, &whole, Vec::new());
    outcome.unwrap();
    let expected = evidence(&whole);
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut stops = 0;
    while stops < count {
        let mut moments = Vec::new();
        loop {
            let moment = if moments.len() < 4 { rng.random_range(1..=calls / 2) } else { u64::MAX };
            let (outcome, ..) = train(&config, device, &text, &run, vec![moment]);
            let Err(error) = outcome else { break };
            assert_eq!(error.exit_code(), 4, "{error}");
            moments.push(moment);
            stops += 1;
        }
        assert_eq!(runs::difference(&evidence(&run), &expected), None, "{moments:?} of {calls}");
        std::fs::remove_dir_all(&run).unwrap();
    }
    println!("{stops} of {stops} stops among {calls} calls on {}: the same bytes", device.describe());
}

#[test]
fn epochs_end_in_the_middle_of_updates() {
    let windows = runs::text(&config()).1.train_windows().unwrap();
    assert!((5..9).contains(&windows) && !windows.is_multiple_of(4), "{windows} windows an epoch");
}

#[test]
fn a_run_resumed_after_a_stop_anywhere_in_an_update_ends_in_the_bytes_of_an_uninterrupted_one() {
    devices().iter().for_each(|device| resumes_alike(device, 4, 3));
}

#[test]
#[ignore = "takes minutes: the full number of stops"]
fn a_run_resumed_after_any_of_fifty_stops_ends_in_the_bytes_of_an_uninterrupted_one() {
    devices().iter().for_each(|device| resumes_alike(device, 50, 4));
}

#[test]
fn a_device_that_finishes_nothing_in_its_time_is_an_error_and_no_panic() {
    let Some(gpu) = common::gpu().map(|gpu| Gpu::open(gpu.summary.index).unwrap()) else { return };
    let shader = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(
            "@group(0) @binding(0) var<storage, read_write> x: array<u32>;
             @compute @workgroup_size(1) fn main() {
                 for (var i = 0u; i < 60000u; i++) { x[i & 3u] = x[(i + 1u) & 3u] * 3u + i; }
             }"
            .into(),
        ),
    });
    let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &shader,
        entry_point: Some("main"),
        compilation_options: Default::default(),
        cache: None,
    });
    let buffer = gpu.buffer_of(&[0; 16], wgpu::BufferUsages::STORAGE);
    let group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[wgpu::BindGroupEntry { binding: 0, resource: buffer.as_entire_binding() }],
    });
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        // Many, one after the other: software Vulkan ends long loops early, and one may be done before anybody waits.
        (0..1000).for_each(|_| pass.dispatch_workgroups(1, 1, 1));
    }
    let submission = gpu.submit(encoder.finish());
    let error = gpu.wait_at_most(Some(&submission), Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    assert!(error.to_string().contains("it hangs"), "{error}");
    drop((pipeline, group, buffer));
    gpu.wait().unwrap(); // it was only slow
}
