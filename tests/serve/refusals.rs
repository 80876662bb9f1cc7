//! Requests that are not done: each is told why, and the server goes on.

use super::client::{Server, posting, read};
use super::{CHAT, COMPLETIONS};
use serde_json::json;
use std::io::Write;

/// Bodies that are refused with status 400, and what the refusal says; the first word is the field at fault.
const WRONG_COMPLETIONS: [(&str, &str); 39] = [
    ("", "not valid JSON"),
    ("{", "not valid JSON"),
    ("[]", "not an object"),
    ("\u{1}", "not valid JSON"),
    (r#"{"prompt": "a", "prompt": "b"}"#, "twice"),
    ("{}", "prompt is missing"),
    (r#"{"prompt": null}"#, "prompt is missing"),
    (r#"{"prompt": 5}"#, "prompt must"),
    (r#"{"prompt": {}}"#, "prompt must"),
    (r#"{"prompt": []}"#, "prompt is an empty list"),
    (r#"{"prompt": [[]]}"#, "prompt has no token"),
    (r#"{"prompt": [true]}"#, "prompt must"),
    (r#"{"prompt": [1, "a"]}"#, "prompt must have tokens"),
    (r#"{"prompt": [1, -1]}"#, "prompt must have tokens"),
    (r#"{"prompt": [1, 1e9]}"#, "prompt must have tokens"),
    (r#"{"prompt": [99999999999]}"#, "prompt must have tokens"),
    (r#"{"prompt": "a", "max_tokens": 0}"#, "max_tokens must"),
    (r#"{"prompt": "a", "max_tokens": 1.5}"#, "max_tokens must"),
    (r#"{"prompt": "a", "max_tokens": "9"}"#, "max_tokens must"),
    (r#"{"prompt": "a", "temperature": -1}"#, "temperature is -1"),
    (r#"{"prompt": "a", "temperature": 5}"#, "temperature is 5; it must be from 0 to 2"),
    (r#"{"prompt": "a", "temperature": "hot"}"#, "temperature must"),
    (r#"{"prompt": "a", "temperature": 1e999}"#, "not valid JSON"),
    (r#"{"prompt": "a", "top_p": 0}"#, "top_p is 0"),
    (r#"{"prompt": "a", "min_p": 2}"#, "min_p is 2"),
    (r#"{"prompt": "a", "top_k": -1}"#, "top_k must"),
    (r#"{"prompt": "a", "repetition_penalty": 0}"#, "repetition_penalty is 0"),
    (r#"{"prompt": "a", "seed": 0.5}"#, "seed must"),
    (r#"{"prompt": "a", "stop": [""]}"#, "stop must"),
    (r#"{"prompt": "a", "stop": 5}"#, "stop must"),
    (r#"{"prompt": "a", "n": 0}"#, "n must"),
    (r#"{"prompt": "a", "n": 100000000000}"#, "n asks"),
    (r#"{"prompt": "a", "stream": 1}"#, "stream must"),
    (r#"{"prompt": "a", "stream_options": {"include_usage": 1}}"#, "stream_options.include_usage must"),
    (r#"{"prompt": "a", "frequency_penalty": 0.5}"#, "frequency_penalty is not supported"),
    (r#"{"prompt": "a", "presence_penalty": -1}"#, "presence_penalty is not supported"),
    (r#"{"prompt": "a", "logprobs": 1}"#, "logprobs is not supported"),
    (r#"{"prompt": "a", "echo": true}"#, "echo is not supported"),
    (r#"{"prompt": "a", "\u001b[2J": 1}"#, "no field"),
];

const WRONG_CHATS: [(&str, &str); 18] = [
    ("{}", "messages is missing"),
    (r#"{"messages": []}"#, "messages must"),
    (r#"{"messages": "hi"}"#, "messages must"),
    (r#"{"messages": [5]}"#, "messages[0] must"),
    (r#"{"messages": [{"role": "user", "content": "a"}, {"role": "king", "content": "a"}]}"#, "messages[1].role is"),
    (r#"{"messages": [{"content": "a"}]}"#, "messages[0].role must"),
    (r#"{"messages": [{"role": "user"}]}"#, "messages[0].content must"),
    (r#"{"messages": [{"role": "user", "content": 5}]}"#, "messages[0].content must"),
    (r#"{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}"#, "messages[0].content must"),
    (r#"{"messages": [{"role": "user", "content": "a", "tool_calls": [{}]}]}"#, "messages[0] has"),
    (r#"{"messages": [{"role": "assistant", "content": "a", "refusal": "no"}]}"#, "messages[0] has"),
    (
        r#"{"messages": [{"role": "user", "content": "a"}], "continue_final_message": true}"#,
        "continue_final_message does",
    ),
    (
        r#"{"messages": [{"role": "assistant", "content": "a"}], "add_generation_prompt": true}"#,
        "add_generation_prompt d",
    ),
    (r#"{"messages": [{"role": "user", "content": "a"}], "reasoning_effort": "low"}"#, "reasoning_effort"),
    (r#"{"messages": [{"role": "user", "content": "a"}], "tools": [{}]}"#, "tools is not supported"),
    (r#"{"messages": [{"role": "user", "content": "a"}], "response_format": {"type": "json_object"}}"#, "response"),
    (r#"{"messages": [{"role": "user", "content": "a"}], "logprobs": true}"#, "logprobs is not supported"),
    (r#"{"messages": [{"role": "user", "content": "a"}], "prompt": "a"}"#, "\"prompt\" is no field"),
];

#[test]
fn what_is_wrong_with_a_body_is_said() {
    let server = Server::start("world", &["--context", "128"]);
    let deep = "[".repeat(100_000);
    let long = json!({"prompt": "Mara ".repeat(2000)}).to_string();
    let long_chat = json!({"messages": [{"role": "user", "content": "Mara ".repeat(2000)}]}).to_string();
    let more = [
        (COMPLETIONS, deep.as_str(), "not valid JSON"),
        (COMPLETIONS, long.as_str(), "context_length_exceeded"),
        (CHAT, long_chat.as_str(), "context_length_exceeded"),
    ];
    let all = WRONG_COMPLETIONS.iter().map(|&(body, word)| (COMPLETIONS, body, word));
    for (path, body, word) in all.chain(WRONG_CHATS.iter().map(|&(body, word)| (CHAT, body, word))).chain(more) {
        let reply = server.post(path, body);
        assert_eq!(reply.status, 400, "{body:.80}: {reply:?}");
        let error = &reply.json()["error"];
        let said = format!("{} {}", error["message"].as_str().unwrap(), error["code"]);
        assert!(said.contains(word), "{body:.80}: {said}");
        assert!(said.len() < 600 && !said.contains(char::is_control), "{said}");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(error.as_object().unwrap().contains_key("param"), "{error}");
    }
    let named = server.post(COMPLETIONS, r#"{"prompt": "a", "top_p": 0}"#).json();
    assert_eq!(named["error"]["param"], "top_p");
    assert_eq!(server.sequences(), 0);
}

#[test]
fn other_addresses_methods_and_types_are_refused() {
    let server = Server::start("world", &["--context", "64"]);
    for path in ["/v1", "/v1/embeddings", "/v1/models/other", "/%00", "/../../etc/passwd"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
    let other = server.post(COMPLETIONS, r#"{"model": "other", "prompt": "a"}"#);
    assert!(other.status == 404 && other.json()["error"]["code"] == "model_not_found", "{other:?}");
    for (path, method) in [
        (CHAT, "GET"),
        (COMPLETIONS, "OPTIONS"),
        ("/health", "POST"),
        ("/v1/models", "DELETE"),
        (CHAT, "HEAD"),
        ("/", "POST"),
    ] {
        let reply =
            server.send(format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes());
        assert!(reply.status == 405 && reply.headers.contains("\r\nallow: "), "{reply:?}");
    }
    // As a page of another site could send it.
    let plain = String::from_utf8(posting(COMPLETIONS, r#"{"prompt": "a"}"#)).unwrap();
    assert_eq!(server.send(plain.replace("application/json", "text/plain").as_bytes()).status, 415);
}

#[test]
fn a_page_whose_name_leads_here_is_refused() {
    let server = Server::start("world", &["--context", "64"]);
    let asked = |host: &str| {
        let asking = String::from_utf8(posting(COMPLETIONS, r#"{"prompt": "a", "max_tokens": 1}"#)).unwrap();
        server.send(asking.replace("host: localhost\r\n", host).as_bytes()).status
    };
    for host in ["127.0.0.1:8000", "[::1]:8000", "localhost:1", "LOCALHOST", "10.1.2.3"] {
        assert_eq!(asked(&format!("host: {host}\r\n")), 200, "{host}");
    }
    for host in ["evil.example", "evil.example:8000", "localhost.evil.example"] {
        assert_eq!(asked(&format!("host: {host}\r\n")), 403, "{host}");
    }
    assert_eq!(asked("host: localhost\r\nhost: evil.example\r\n"), 403);
    let whole = "GET http://evil.example/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert_eq!(server.send(whole.as_bytes()).status, 403);
    assert_eq!(server.send(b"GET /health HTTP/1.0\r\n\r\n").status, 200, "an old client names none");
    let open = Server::start("world", &["--context", "64", "--host", "0.0.0.0"]);
    assert_eq!(open.send(b"GET /health HTTP/1.1\r\nhost: box.lan\r\nconnection: close\r\n\r\n").status, 200);
}

#[test]
fn what_is_too_large_or_no_http_hurts_nobody() {
    let server = Server::start("world", &["--context", "64", "--max-body", "10KiB"]);
    let body = json!({"prompt": "a".repeat(20_000)}).to_string();
    assert_eq!(server.post(COMPLETIONS, &body).status, 413);
    let head =
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    assert_eq!(server.send(chunked.as_bytes()).status, 413);
    // Bodies that were not sent, and never will be.
    for more in ["content-length: 20000\r\nexpect: 100-continue", "content-length: 99999999999999"] {
        assert_eq!(server.send(format!("{head}{more}\r\n\r\n").as_bytes()).status, 413, "{more}");
    }
    let many = format!("GET /health HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000));
    let long = format!("GET /health HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(100_000));
    for garbage in ["hello\r\n\r\n", "GET /health HTTP/9.9\r\n\r\n", "\0\u{1}\u{2}\r\n\r\n", &many, &long] {
        let mut stream = server.connect();
        let _ = stream.write_all(garbage.as_bytes()); // it may have closed before it has all
        let mut bytes = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{garbage:.40}: {text}");
    }
    // A body that ends too early.
    let mut stream = server.connect();
    stream.write_all(format!("{head}content-length: 50\r\n\r\n{{").as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
    // Clients that say nothing, or stop in the middle, keep nobody from being served.
    let slow: Vec<_> = (0..100).map(|_| server.connect()).collect();
    slow.iter().for_each(|mut stream| stream.write_all(b"POST /v1/completions HTTP/1.1\r\nhost").unwrap());
    assert_eq!(server.get("/health").status, 200);
    drop(slow);
    let mut last = server.connect();
    last.write_all(&posting(COMPLETIONS, r#"{"prompt": "a", "max_tokens": 1}"#)).unwrap();
    assert_eq!(read(last).status, 200);
}

#[test]
#[ignore = "waits for limits of time, half a minute"]
fn who_is_too_slow_is_closed() {
    let server = Server::start("world", &["--context", "4096"]);
    let head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let dripping = |begin: String, drop: &str| {
        let (mut stream, begun) = (server.connect(), std::time::Instant::now());
        stream.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
        stream.write_all(begin.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        while std::io::Read::read_to_end(&mut stream, &mut bytes).is_err() && stream.write_all(drop.as_bytes()).is_ok()
        {
        }
        assert!((25..50).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        String::from_utf8(bytes).unwrap()
    };
    std::thread::scope(|scope| {
        let headers = scope.spawn(|| dripping(head.to_owned(), "a: b\r\n"));
        let body = scope.spawn(|| dripping(format!("{head}content-length: 1000\r\n\r\n{{"), " "));
        let silent = scope.spawn(|| dripping(String::new(), ""));
        let long = json!({"prompt": vec!["a"; 64], "max_tokens": 4000, "stream": true, "temperature": 0}).to_string();
        let mut unread = server.connect();
        unread.write_all(&posting(COMPLETIONS, &long)).unwrap();
        assert!(body.join().unwrap().starts_with("HTTP/1.1 408"));
        assert_eq!((headers.join().unwrap().as_str(), silent.join().unwrap().as_str()), ("", ""));
        server.wait_for(0); // nobody took what the long answer said
    });
}
