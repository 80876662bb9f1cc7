//! Runs that are killed while they save: nothing that was saved is lost, and in the end the bytes are those of a run
//! that nobody touched.

use hadal::checkpoint::manifest::verify;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A new run, or the same that goes on, with a checkpoint after every update.
fn start(at: &Path, out: &str, steps: usize, resume: bool) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hadal"));
    command.current_dir(at).env("XDG_CACHE_HOME", at).env("LOCALAPPDATA", at);
    for key in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        command.env(key, at.join("no-such-driver.json"));
    }
    command.args(["train", "--out", out, "--backend", "cpu"]);
    if resume {
        command.arg("--resume");
    } else {
        command.arg("--steps").arg(steps.to_string());
        for setting in [
            "model.hidden_size=32",
            "model.num_hidden_layers=2",
            "model.num_attention_heads=2",
            "train.sequence_length=16",
            "train.micro_batch=2",
            "train.eval_batches=1",
            "train.eval_interval=0",
            "train.checkpoint_interval=1",
            "log.plot_interval=0",
        ] {
            command.args(["--set", setting]);
        }
    }
    let log = fs::File::create(at.join(format!("{out}.err"))).unwrap();
    command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

fn names(run: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(run.join("checkpoints")) else { return BTreeSet::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The checkpoints, oldest first.
fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let complete = |name: &String| name.starts_with("step-") && !name.contains('.');
    names(run).into_iter().filter(complete).map(|name| run.join("checkpoints").join(name)).collect()
}

/// Waits until something changes among the checkpoints: a save has begun or ended. Nothing if the run ends first.
fn until_a_save(child: &mut Child, run: &Path) -> Option<()> {
    let (before, started) = (names(run), Instant::now());
    while names(run) == before {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        assert!(started.elapsed() < Duration::from_secs(100), "no checkpoint came");
        std::thread::sleep(Duration::from_micros(200));
    }
    Some(())
}

fn killed_and_resumed(kills: usize, steps: usize) {
    let (at, started) = (tempfile::tempdir().unwrap(), Instant::now());
    assert!(start(at.path(), "whole", steps, false).wait().unwrap().success());
    let step = started.elapsed().as_micros() as u64 / steps as u64; // an update and its save
    let (whole, run) = (at.path().join("whole"), at.path().join("run"));
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(11);
    let (mut done, mut half_saved, mut newest) = (0, 0, None);
    while done < kills {
        let mut child = start(at.path(), "run", steps, done > 0);
        if until_a_save(&mut child, &run).is_none() {
            break;
        }
        std::thread::sleep(Duration::from_micros(rng.random_range(0..2 * step)));
        child.kill().unwrap();
        let killed = child.wait().unwrap().code().is_none();
        done += 1;
        let said = fs::read_to_string(at.path().join("run.err")).unwrap();
        assert!(!said.contains("passed over") && !said.contains("error"), "kill {done}: {said}");
        for folder in checkpoints(&run) {
            assert!(verify(&folder, &[]).unwrap().is_some(), "kill {done}: {}", folder.display());
        }
        let last = checkpoints(&run).pop();
        assert!(last >= newest, "kill {done}: {newest:?} is lost");
        newest = last;
        half_saved += usize::from(killed && names(&run).iter().any(|name| name.contains('-') && name.contains('.')));
    }
    println!("{done} kills, {half_saved} of them while saving, the last at {newest:?}");
    assert_eq!(done, kills, "the run ended before: raise its steps");
    assert!(start(at.path(), "run", steps, true).wait().unwrap().success());
    assert_eq!(names(&run), names(&whole), "nothing is left over");
    for (a, b) in checkpoints(&run).iter().zip(&checkpoints(&whole)) {
        for file in fs::read_dir(b).unwrap() {
            let name = file.unwrap().file_name();
            assert!(
                fs::read(a.join(&name)).unwrap() == fs::read(b.join(&name)).unwrap(),
                "{name:?} of {}",
                a.display()
            );
        }
    }
}

#[test]
fn a_run_that_is_killed_while_it_saves_ends_in_the_bytes_of_an_uninterrupted_one() {
    killed_and_resumed(10, 80);
}

#[test]
#[ignore = "two hundred kills: minutes"]
fn a_run_that_is_killed_two_hundred_times_ends_in_the_bytes_of_an_uninterrupted_one() {
    killed_and_resumed(200, 800);
}
