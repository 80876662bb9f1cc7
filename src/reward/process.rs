//! A program that is given lines and answers lines. Nobody ever waits for it longer than allowed: what it does not read
//! waits in one thread, what it writes is read in another, and whoever wants a line waits until a deadline.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of the longest line that is read.
const LONGEST: usize = 64 << 10;
/// Lines that are read ahead; a program that writes more has to wait.
const AHEAD: usize = 64;
/// How long a program whose input has ended may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(5);

/// What came of waiting for a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A line without its line feed.
    Text(Vec<u8>),
    /// More bytes than any line may have.
    TooLong,
    /// There are no more lines.
    End,
    /// None until the deadline.
    Late,
}

/// A running program. It is ended, and waited for, where this is dropped.
pub struct Process {
    child: Child,
    give: Option<Sender<Vec<u8>>>,
    take: Receiver<Line>,
}

impl Process {
    /// Starts the program `command[0]` with the other words as its arguments. What it says on standard error is shown.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(command: &[String]) -> io::Result<Process> {
        let (program, arguments) = command.split_first().ok_or_else(|| io::Error::other("no program is named"))?;
        let mut run = Command::new(program);
        let mut child = run.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (give, given) = channel::<Vec<u8>>();
        let (read, take) = sync_channel(AHEAD);
        let process = Process { child, give: Some(give), take };
        let (Some(mut input), Some(output)) = (input, output) else { return Err(io::Error::other("it has no pipes")) };
        // Neither thread is waited for: a child of the program may hold its pipes open for ever.
        thread::Builder::new().name("reward input".into()).spawn(move || {
            for lines in given {
                if input.write_all(&lines).and_then(|()| input.flush()).is_err() {
                    break; // it has ended, which reading tells
                }
            }
        })?;
        thread::Builder::new().name("reward output".into()).spawn(move || read_lines(output, &read))?;
        Ok(process)
    }

    /// Gives the program lines, now or as soon as it reads them.
    pub fn send(&self, lines: Vec<u8>) {
        if let Some(give) = &self.give {
            // Where the thread has ended, so have the answers.
            let _ = give.send(lines);
        }
    }

    /// The next line that it writes before `deadline`.
    pub fn receive(&self, deadline: Instant) -> Line {
        match self.take.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => Line::Late,
            Err(RecvTimeoutError::Disconnected) => Line::End,
        }
    }

    /// Ends the program, if it does not end by itself within `patience` of the end of its input, and says how it ended.
    pub fn stop(&mut self, patience: Duration) -> String {
        self.give = None;
        let started = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && started.elapsed() < patience {
            thread::sleep(LOOK);
        }
        // An error says that it has ended already.
        let _ = self.child.kill();
        self.child.wait().map_or_else(|e| e.to_string(), |status| status.to_string())
    }

    /// The number by which the system knows it.
    #[cfg(all(test, unix))]
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop(PATIENCE);
    }
}

/// Hands on the lines of `output` until it ends, one is too long, or nobody takes them any more.
fn read_lines(output: impl Read, give: &SyncSender<Line>) {
    let mut output = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        let read = (&mut output).take(LONGEST as u64 + 1).read_until(b'\n', &mut line);
        let line = match read {
            Ok(0) | Err(_) => Line::End,
            Ok(_) if line.last() == Some(&b'\n') => {
                line.pop();
                Line::Text(line)
            }
            Ok(n) if n > LONGEST => Line::TooLong,
            Ok(_) => Line::Text(line), // the last one, without a line feed
        };
        let last = !matches!(line, Line::Text(_));
        if give.send(line).is_err() || last {
            return;
        }
    }
}
