//! Reads files on a thread of its own and says what is wrong with how that went.

use hadal::error::{Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Memory that reading may take beside the file's size.
const MEMORY: u64 = 256 << 20;
/// Characters of the longest message.
const LONGEST_MESSAGE: usize = 4500;

/// What a test holds that reads files. Memory is that of the whole process, so no two of them may run at once: what one
/// gives back while another's file is read would hide as much of that file's memory.
pub struct Alone(#[expect(dead_code, reason = "held, not used")] MutexGuard<'static, ()>);

impl Alone {
    /// Waits for the other tests that read files.
    pub fn wait() -> Alone {
        static ONE: Mutex<()> = Mutex::new(());
        Alone(ONE.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads the file that `bytes` are, in a folder for its use.
pub type Read = fn(&Path, &[u8]) -> Result<()>;

/// What must not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It panicked.
    Panic(String),
    /// It took longer than it may.
    Hang,
    /// It took that many bytes.
    Memory(u64),
    /// It was refused with another exit code than that of bad input, or in more than a sentence.
    Refusal(i32, String),
}

/// A reader of files.
pub struct Judge {
    give: Sender<Vec<u8>>,
    take: Receiver<std::thread::Result<Result<()>>>,
    longest: Duration,
    memory: u64,
    slowest: Duration,
    most: u64,
}

impl Judge {
    /// A judge of `read`, which may take `longest` for a file.
    pub fn new(_: &Alone, read: Read, longest: Duration) -> Judge {
        let (give, files) = channel::<Vec<u8>>();
        let (done, take) = channel();
        std::thread::spawn(move || {
            let folder = scratch();
            for bytes in files {
                let result = catch_unwind(AssertUnwindSafe(|| read(folder.path(), &bytes)));
                drop(bytes); // not while the next is read
                if done.send(result).is_err() {
                    break;
                }
            }
        });
        Judge { give, take, longest, memory: MEMORY, slowest: Duration::ZERO, most: 0 }
    }

    /// The same that allows other memory beside a file's size.
    pub fn allowing(self, memory: u64) -> Judge {
        Judge { memory, ..self }
    }

    /// Whether the file was accepted.
    pub fn judge(&mut self, bytes: Vec<u8>) -> std::result::Result<bool, Fault> {
        let (allowed, before) = (bytes.len() as u64 + self.memory, memory_now());
        let started = Instant::now();
        self.give.send(bytes).unwrap();
        let result = match self.take.recv_timeout(self.longest) {
            Err(RecvTimeoutError::Timeout) => return Err(Fault::Hang),
            result => result.unwrap(),
        };
        self.slowest = self.slowest.max(started.elapsed());
        let grown = before.map_or(0, |before| memory_peak().saturating_sub(before));
        self.most = self.most.max(grown);
        if grown > allowed {
            return Err(Fault::Memory(grown));
        }
        match result {
            Err(panic) => Err(Fault::Panic(message(&*panic))),
            Ok(Ok(())) => Ok(true),
            Ok(Err(e)) => refusal(&e).map(|()| false),
        }
    }

    /// Longest time and most memory of a file so far.
    pub fn worst(&self) -> (Duration, u64) {
        (self.slowest, self.most)
    }
}

/// A refusal is one sentence and bad input.
fn refusal(e: &Error) -> std::result::Result<(), Fault> {
    let text = e.to_string();
    match e.exit_code() {
        2 if is_sentence(&text) => Ok(()),
        code => Err(Fault::Refusal(code.into(), text.chars().take(LONGEST_MESSAGE).collect())),
    }
}

fn is_sentence(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= LONGEST_MESSAGE && !text.contains(char::is_control)
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default().to_owned()
}

/// A folder in memory, where there is one.
pub fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// Bytes of the process in memory, from which [`memory_peak`] is counted anew; none where the kernel has no such count.
#[cfg(target_os = "linux")]
fn memory_now() -> Option<u64> {
    std::fs::write("/proc/self/clear_refs", "5").ok()?; // sets the peak to what there is now
    Some(status("VmRSS:"))
}

/// The most bytes in memory since then.
#[cfg(target_os = "linux")]
fn memory_peak() -> u64 {
    status("VmHWM:")
}

#[cfg(target_os = "linux")]
fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Other systems do not tell a process its peak.
#[cfg(not(target_os = "linux"))]
fn memory_now() -> Option<u64> {
    None
}

#[cfg(not(target_os = "linux"))]
fn memory_peak() -> u64 {
    0
}

#[test]
fn every_planted_fault_is_found() {
    let alone = Alone::wait();
    let judged =
        |read: Read, longest: u64| Judge::new(&alone, read, Duration::from_millis(longest)).judge(vec![7; 100]);
    assert_eq!(judged(|_, bytes| if bytes == [7; 100] { Ok(()) } else { panic!("other bytes") }, 5000), Ok(true));
    assert_eq!(judged(|_, _| Err(Error::Usage("no".into())), 5000), Ok(false));
    assert_eq!(judged(|_, _| panic!("planted"), 5000), Err(Fault::Panic("planted".into())));
    let slow: Read = |_, _| {
        std::thread::sleep(Duration::from_secs(3));
        Ok(())
    };
    assert_eq!(judged(slow, 100), Err(Fault::Hang));
    if memory_now().is_some() {
        let bomb: Read = |_, bytes| {
            let held = vec![bytes[0]; 384 << 20];
            if std::hint::black_box(&held).contains(&0) {
                panic!("no zero")
            }
            Ok(())
        };
        let found = judged(bomb, 60_000);
        assert!(matches!(found, Err(Fault::Memory(bytes)) if bytes >= 300 << 20), "{found:?}");
    }
    assert!(matches!(judged(|_, _| Err(Error::Device("lost".into())), 5000), Err(Fault::Refusal(4, _))));
    for text in [String::new(), "x".repeat(5000), "a\u{1b}[2J".to_owned()] {
        assert!(!is_sentence(&text));
    }
}
