//! Signals that ask a run to stop: the first is remembered for the training loop, the second ends the process at once.

use crate::error::{Error, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// What asks a process to end: Ctrl-C, `kill`, and the end of the terminal.
const ASKING: &[(i32, &str)] = &[
    (SIGINT, "SIGINT"),
    (SIGTERM, "SIGTERM"),
    #[cfg(unix)]
    (signal_hook::consts::SIGHUP, "SIGHUP"),
];

/// Whether a signal has asked the process to stop.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Number of the signal, 0 before one came.
    signal: Arc<AtomicUsize>,
}

/// The signal that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// `SIGINT`.
    pub name: &'static str,
    /// Its number; the process leaves with 128 and this.
    pub number: u8,
}

impl Stop {
    /// From the first call on, one signal no longer ends the process, and a second ends it with the exit code that it
    /// would have had.
    pub fn listen() -> Result<Stop> {
        static LISTENING: OnceLock<std::result::Result<Stop, String>> = OnceLock::new();
        let listening = LISTENING.get_or_init(|| Stop::register().map_err(|e| e.to_string()));
        listening.clone().map_err(|reason| Error::Usage(format!("signals cannot be listened to: {reason}")))
    }

    fn register() -> std::io::Result<Stop> {
        let (signal, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        for &(number, _) in ASKING {
            // In this order: what is done about the second signal must not see the mark of the first too early.
            flag::register_conditional_shutdown(number, 128 + number, asked.clone())?;
            flag::register(number, asked.clone())?;
            flag::register_usize(number, signal.clone(), number as usize)?;
        }
        Ok(Stop { signal })
    }

    /// The signal, once one has come.
    pub fn requested(&self) -> Option<Signal> {
        let found = self.signal.load(Ordering::Relaxed);
        let known = ASKING.iter().find(|(number, _)| *number as usize == found);
        known.map(|&(number, name)| Signal { name, number: number as u8 })
    }
}

impl Stop {
    /// Calls `say` at once, on another thread, when a signal comes before the guard that is returned is dropped: what
    /// the program does may take long before it looks for signals.
    pub fn acknowledge(&self, say: impl FnOnce(Signal) + Send + 'static) -> Acknowledging {
        let (stop, over) = (self.clone(), Arc::new(AtomicBool::new(false)));
        let ended = over.clone();
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                if let Some(signal) = stop.requested() {
                    return say(signal);
                }
                std::thread::park_timeout(Duration::from_millis(50));
            }
        });
        Acknowledging { over, thread: Some(thread) }
    }
}

/// As long as it lives, a signal is acknowledged.
pub struct Acknowledging {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Acknowledging {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // What it says is for the eye alone: nothing is lost where saying it panicked.
            let _ = thread.join();
        }
    }
}

/// Whether Ctrl-C was pressed, of a program that goes on after it.
#[derive(Clone, Debug)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on Ctrl-C no longer ends the process.
    pub fn listen() -> Result<Interrupt> {
        let pressed = Arc::new(AtomicBool::new(false));
        let registered = flag::register(SIGINT, pressed.clone());
        registered.map_err(|e| Error::Usage(format!("signals cannot be listened to: {e}")))?;
        Ok(Interrupt(pressed))
    }

    /// Whether it was pressed since this was last asked.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_known_by_its_number_and_none_has_come_at_first() {
        let stop = Stop { signal: Arc::new(AtomicUsize::new(0)) };
        assert_eq!(stop.requested(), None);
        stop.signal.store(SIGTERM as usize, Ordering::Relaxed);
        assert_eq!(stop.requested(), Some(Signal { name: "SIGTERM", number: 15 }));
    }

    #[test]
    fn a_signal_is_acknowledged_once_and_without_one_nothing_is_said() {
        let (stop, said) = (Stop { signal: Arc::new(AtomicUsize::new(0)) }, Arc::new(AtomicUsize::new(0)));
        let acknowledging = || {
            let said = said.clone();
            stop.acknowledge(move |signal| said.store(signal.number.into(), Ordering::SeqCst))
        };
        drop(acknowledging());
        assert_eq!(said.load(Ordering::SeqCst), 0);
        let guard = acknowledging();
        stop.signal.store(SIGINT as usize, Ordering::Relaxed);
        let begun = std::time::Instant::now();
        while said.load(Ordering::SeqCst) == 0 && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(guard);
        assert_eq!(said.load(Ordering::SeqCst), 2);
    }
}
