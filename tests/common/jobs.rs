//! One test's work in several processes at a time. Software drivers compile one shader after the other in a process,
//! however many threads ask for one.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs the test called `test` of this program once for each of `jobs`, which it finds in the variable `name`, in as
/// many processes at a time as there are cores. Panics with what those print that fail.
pub fn share(test: &str, name: &str, jobs: &[String]) {
    let program = std::env::current_exe().expect("the program has a path");
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut command = Command::new(&program);
            // Each shader runs once or twice: lavapipe's optimizations would take longer than they spare.
            command.args(["--exact", test, "--nocapture"]).env(name, job).env("GALLIVM_PERF", "nopt");
            let output = command.output().expect("the program starts");
            let printed = String::from_utf8_lossy(&output.stdout);
            print!("{printed}");
            // A name that no test has runs none, and is a success.
            if !output.status.success() || !printed.contains("1 passed") {
                let said = String::from_utf8_lossy(&output.stderr);
                failures.lock().unwrap().push(format!("{job}: {}\n{printed}{said}", output.status));
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
