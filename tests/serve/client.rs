//! A server of a small model with random weights, and a client that says exactly what a test wants said.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

/// The program, without a Vulkan driver.
pub fn hadal(at: &Path) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("hadal"));
    command.current_dir(at).env("XDG_CACHE_HOME", at);
    for key in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        command.env(key, at.join("no-such-driver.json"));
    }
    command
}

/// A folder with the models `world`, whose vocabulary has tokens for chats, and `byte`, whose has none.
pub fn models() -> &'static Path {
    static MODELS: OnceLock<TempDir> = OnceLock::new();
    let folder = MODELS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        for tokenizer in ["world", "byte"] {
            let mut train = hadal(folder.path());
            train.args(["train", "--backend", "cpu", "--steps", "1", "--tokenizer", tokenizer, "--out", tokenizer]);
            for set in [
                "model.hidden_size=32",
                "model.num_hidden_layers=2",
                "model.num_attention_heads=2",
                "model.max_position_embeddings=8192",
                "train.sequence_length=32",
                "train.micro_batch=2",
                "train.eval_batches=1",
                "schedule.warmup_steps=1",
            ] {
                train.args(["--set", set]);
            }
            let done = train.output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        folder
    });
    folder.path()
}

/// A running server, ended when it is dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// What it says, read to its end.
    said: Option<JoinHandle<String>>,
}

impl Server {
    /// Serves `model` with more arguments, on a port that is free.
    pub fn start(model: &str, more: &[&str]) -> Server {
        let mut command = hadal(models());
        command.args(["serve", model, "--backend", "cpu", "--port", "0"]).args(more);
        Server::begin(command)
    }

    /// Begins what `command` serves.
    pub fn begin(mut command: Command) -> Server {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("it ended: {said}")).unwrap();
            said += &format!("{line}\n");
            if let Some((_, address)) = line.split_once(" listens on http://") {
                break address.trim_end_matches("/v1").parse().unwrap();
            }
        };
        let rest = move || said + &lines.map_while(Result::ok).collect::<Vec<_>>().join("\n");
        Server { child, address, said: Some(std::thread::spawn(rest)) }
    }

    /// Sends `bytes` and gives whatever comes until the server closes.
    pub fn send(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        read(stream)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    pub fn get(&self, path: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())
    }

    pub fn post(&self, path: &str, body: &str) -> Reply {
        self.send(&posting(path, body))
    }

    /// The JSON of a request that is done.
    pub fn done(&self, path: &str, body: &Value) -> Value {
        let reply = self.post(path, &body.to_string());
        assert_eq!(reply.status, 200, "{body}: {}", reply.body);
        reply.json()
    }

    /// Begins a stream.
    pub fn stream(&self, path: &str, body: &Value) -> Events {
        let mut stream = self.connect();
        stream.write_all(&posting(path, &body.to_string())).unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        Events(reader)
    }

    /// Sequences under way or waiting.
    pub fn sequences(&self) -> u64 {
        self.get("/health").json()["sequences"].as_u64().unwrap()
    }

    /// Waits until there are so many.
    pub fn wait_for(&self, sequences: u64) {
        for _ in 0..2000 {
            if self.sequences() == sequences {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("there are {} sequences, not {sequences}", self.sequences());
    }

    /// Asks it to stop.
    #[cfg(unix)]
    pub fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Waits for its end: exit code and what it said.
    pub fn ended(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        (code, self.said.take().unwrap().join().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(said) = self.said.take().map(|said| said.join().unwrap()) {
            assert!(!said.contains("panicked"), "{said}");
        }
    }
}

/// The bytes of a request with a body of JSON.
pub fn posting(path: &str, body: &str) -> Vec<u8> {
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n");
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A response.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

pub fn read(mut stream: TcpStream) -> Reply {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (headers, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {text:?}"));
    let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, headers: headers.to_lowercase(), body: body.to_owned() }
}

/// Server-sent events; dropped, the client is gone.
pub struct Events(BufReader<TcpStream>);

impl Iterator for Events {
    type Item = String;

    /// The data of the next event. Every event lies in one chunk of the body, so that sizes of chunks are other lines.
    fn next(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.0.read_line(&mut line).unwrap() > 0 {
            if let Some(data) = line.trim_end().strip_prefix("data: ") {
                return Some(data.to_owned());
            }
            line.clear();
        }
        None
    }
}

/// What a stream of one choice comes to: its text, why it ended, and its other events.
pub fn collect(events: Events) -> (String, String, Vec<Value>) {
    let (mut text, mut finish, mut others) = (String::new(), String::new(), Vec::new());
    let mut lines: Vec<String> = events.collect();
    assert_eq!(lines.pop().as_deref(), Some("[DONE]"));
    for line in lines {
        let event: Value = serde_json::from_str(&line).unwrap();
        let Some(choice) = event["choices"].get(0) else {
            others.push(event);
            continue;
        };
        let part = choice.get("text").or(choice["delta"].get("content")).unwrap_or(&Value::Null);
        text += part.as_str().unwrap_or_default();
        finish += choice["finish_reason"].as_str().unwrap_or_default();
    }
    (text, finish, others)
}

/// A conversation of one message.
pub fn asking(content: &str) -> Value {
    json!([{"role": "user", "content": content}])
}
