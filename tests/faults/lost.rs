//! A run that loses its device at one moment after the other, and what is left of it.

use super::{BEFORE, Unlucky, runs};
use hadal::backend::Device;
use hadal::config::Config;
use hadal::error::Result;
use hadal::train::journal::read_rows;
use hadal::train::start::Source;
use hadal::train::trainer::Outcome;
use rand::{RngExt, SeedableRng};
use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

/// Trains in a run folder, or goes on there, on the machines of a source; calls the last argument when the trainer
/// takes over.
pub type Train = dyn Fn(&Config, &mut dyn Source, &Path, &dyn Fn()) -> Result<Outcome>;

/// Trains, losing the device at the given calls. Also gives the number of calls and of devices.
fn unlucky(
    config: &Config,
    device: &Device,
    run: &Path,
    moments: Vec<u64>,
    train: &Train,
) -> (Result<Outcome>, u64, u32) {
    let (calls, device) = (Rc::new(Cell::new(BEFORE)), device.reopen().unwrap());
    let mut source = Unlucky { config, device, calls: calls.clone(), moments: Rc::new(moments), opened: 0 };
    let outcome = train(config, &mut source, run, &|| calls.set(0));
    (outcome, calls.get(), source.opened)
}

/// Loses the device at `count` moments, a run each, or stops for good there and goes on, and compares the ends with
/// that of a run which loses none, after a `look` at it.
pub fn ends_alike(device: &Device, mut config: Config, count: usize, seed: u64, train: &Train, look: &dyn Fn(&Path)) {
    let (kind, steps, folder) = (config.kind().command(), config.train.steps, tempfile::tempdir().unwrap());
    let evidence = |run: &Path| runs::evidence(run, steps, read_rows(run).unwrap());
    let whole = folder.path().join("whole");
    let (outcome, calls, _) = unlucky(&config, device, &whole, Vec::new(), train);
    outcome.unwrap();
    let expected = evidence(&whole);
    look(&whole);
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    for i in 0..count {
        let (moment, run) = (rng.random_range(1..=calls), folder.path().join(format!("run-{i}")));
        config.train.device_retries = (i % 2) as u32;
        let (outcome, _, opened) = unlucky(&config, device, &run, vec![moment], train);
        match i % 2 {
            0 => {
                assert_eq!(outcome.unwrap_err().exit_code(), 4);
                unlucky(&config, device, &run, Vec::new(), train).0.unwrap();
            }
            _ => assert!(outcome.unwrap().steps == steps && opened == 2, "the device was never lost"),
        }
        let described = device.describe();
        assert_eq!(runs::difference(&evidence(&run), &expected), None, "{kind}: {moment} of {calls} on {described}");
        std::fs::remove_dir_all(&run).unwrap();
    }
    println!("{kind}: {count} of {count} moments of {calls} calls on {}: the same bytes", device.describe());
}
