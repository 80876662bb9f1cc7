//! `hadal serve` as its clients meet it, kind ones and others.

#[path = "serve/client.rs"]
mod client;
#[path = "serve/habits.rs"]
mod habits;
#[path = "serve/refusals.rs"]
mod refusals;
#[path = "common/says.rs"]
mod says;

use client::{Server, asking, collect};
use serde_json::{Value, json};

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

/// The object with some fields more.
fn with(mut object: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("{more}") };
    object.as_object_mut().unwrap().extend(more);
    object
}

#[test]
fn every_address_answers_in_the_known_shape() {
    let server = Server::start("world", &["--context", "256"]);
    let health = server.get("/health").json();
    assert_eq!((&health["status"], &health["sequences"], &health["places"]), (&json!("ok"), &json!(0), &json!(320)));
    let models = server.get("/v1/models").json();
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!("world")));
    assert_eq!(server.get("/v1/models/world").json(), models["data"][0]);

    let body = json!({"model": "world", "prompt": "One morning", "max_tokens": 9, "temperature": 0.0});
    let text = server.done(COMPLETIONS, &body);
    assert_eq!((&text["object"], &text["model"]), (&json!("text_completion"), &json!("world")));
    let [prompt, drawn, all] =
        ["prompt_tokens", "completion_tokens", "total_tokens"].map(|count| text["usage"][count].as_u64().unwrap());
    assert!(prompt >= 3 && drawn == 9 && all == prompt + drawn, "{text}");
    assert_eq!(text["choices"][0]["finish_reason"], "length");
    let several = json!({"prompt": ["One morning", [5, 6, 7]], "n": 2, "seed": 3});
    let several = server.done(COMPLETIONS, &several);
    let choices = several["choices"].as_array().unwrap();
    let indices: Vec<u64> = choices.iter().map(|choice| choice["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [0, 1, 2, 3]);
    assert_ne!(choices[0]["text"], choices[1]["text"], "choices of one prompt draw with their own seeds");

    let parts = json!([{"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "Where is "}, {"type": "text", "text": "Mara?"}]}]);
    let body = json!({"messages": parts, "max_completion_tokens": 5, "seed": -1, "top_k": 50, "min_p": 0.01,
        "repetition_penalty": 1.1, "user": "me", "frequency_penalty": 0, "stream_options": null});
    let chat = server.done(CHAT, &body);
    let whole = json!([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Where is Mara?"}]);
    let same = server.done(CHAT, &with(body, json!({"messages": whole})));
    assert_eq!(chat["choices"], same["choices"]);
    assert_eq!((&chat["object"], &chat["usage"]), (&json!("chat.completion"), &same["usage"]));
    assert_eq!(chat["choices"][0]["message"]["role"], "assistant");
}

#[test]
fn a_stream_says_what_the_whole_answer_says() {
    let server = Server::start("world", &["--context", "256"]);
    for seed in 0..4 {
        let settings = json!({"seed": seed, "max_tokens": 60});
        let prompt = with(settings.clone(), json!({"prompt": "Grüße 🐟"}));
        let chat = with(settings, json!({"messages": asking("Where is Mara?")}));
        for (path, body) in [(COMPLETIONS, prompt), (CHAT, chat)] {
            let whole = server.done(path, &body);
            let choice = &whole["choices"][0];
            let said = choice["text"].as_str().or(choice["message"]["content"].as_str()).unwrap();
            let streamed = with(body.clone(), json!({"stream": true, "stream_options": {"include_usage": true}}));
            let (text, finish, others) = collect(server.stream(path, &streamed));
            assert_eq!((text.as_str(), finish.as_str()), (said, choice["finish_reason"].as_str().unwrap()));
            assert_eq!((others.len(), &others[0]["usage"]), (1, &whole["usage"]));
            let (_, _, others) = collect(server.stream(path, &with(body, json!({"stream": true}))));
            assert!(others.is_empty(), "{others:?}");
        }
    }
}

#[test]
fn a_stop_ends_an_answer_before_it() {
    let server = Server::start("world", &["--context", "256"]);
    let body = json!({"prompt": "One morning", "max_tokens": 60, "seed": 11});
    let said = server.done(COMPLETIONS, &body)["choices"][0]["text"].as_str().unwrap().to_owned();
    let letters: Vec<char> = said.chars().collect();
    for at in (3..letters.len() - 4).step_by(7) {
        let stop: String = letters[at..at + 4].iter().collect(); // wherever the borders of tokens are
        let expected = said.split(&stop).next().unwrap();
        let stopping = with(body.clone(), json!({"stop": ["never \u{1}", stop]}));
        let choice = &server.done(COMPLETIONS, &stopping)["choices"][0];
        assert_eq!((choice["text"].as_str(), &choice["finish_reason"]), (Some(expected), &json!("stop")));
        let (text, finish, _) = collect(server.stream(COMPLETIONS, &with(stopping, json!({"stream": true}))));
        assert_eq!((text.as_str(), finish.as_str()), (expected, "stop"));
    }
    server.wait_for(0);
}

/// The request of client number `i`: each another.
fn load(i: usize) -> (&'static str, Value) {
    let body = json!({"seed": i, "max_tokens": 5 + i % 23, "temperature": (i % 4) as f64 * 0.5});
    match i % 2 {
        0 => (COMPLETIONS, with(body, json!({"prompt": "ab ".repeat(1 + i)}))),
        _ => (CHAT, with(body, json!({"messages": asking(&"Where? ".repeat(i % 17 + 1))}))),
    }
}

#[test]
fn of_64_clients_each_gets_what_it_gets_alone() {
    let server = Server::start("world", &["--context", "256", "--slots", "16"]);
    let said = |whole: &Value| {
        let choice = &whole["choices"][0];
        choice["text"].as_str().or(choice["message"]["content"].as_str()).unwrap().to_owned()
    };
    let alone: Vec<String> = (0..64).map(|i| said(&server.done(load(i).0, &load(i).1))).collect();
    let together: Vec<String> = std::thread::scope(|scope| {
        let client = |i| {
            let server = &server;
            scope.spawn(move || {
                let (path, body) = load(i);
                match i % 3 {
                    0 => collect(server.stream(path, &with(body, json!({"stream": true})))).0,
                    _ => said(&server.done(path, &body)),
                }
            })
        };
        let clients: Vec<_> = (0..64).map(client).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(together, alone);
    assert!(alone.iter().filter(|text| !text.is_empty()).count() > 50);
    assert_eq!(server.sequences(), 0);
}

#[test]
fn a_full_queue_is_said_and_who_goes_away_makes_room() {
    let server = Server::start("world", &["--context", "8192", "--slots", "1", "--queue", "1"]);
    // Greedily: what is drawn might end the answer early.
    let long = json!({"prompt": "One", "max_tokens": 8000, "temperature": 0, "stream": true});
    let mut first = server.stream(COMPLETIONS, &long);
    first.next().unwrap();
    let mut waiting = server.connect();
    let whole = with(long.clone(), json!({"stream": false}));
    std::io::Write::write_all(&mut waiting, &client::posting(COMPLETIONS, &whole.to_string())).unwrap();
    server.wait_for(2);
    let reply = server.post(COMPLETIONS, &long.to_string());
    assert!(reply.status == 429 && reply.headers.contains("retry-after"), "{reply:?}");
    let error = &reply.json()["error"];
    assert_eq!((&error["type"], &error["code"]), (&json!("rate_limit_error"), &json!("queue_full")));
    drop(waiting); // one that has no slot yet
    server.wait_for(1);
    drop(first); // one in the middle of its answer
    server.wait_for(0);
    server.done(COMPLETIONS, &json!({"prompt": "One", "max_tokens": 2}));
}

#[cfg(unix)]
#[test]
fn asked_to_stop_it_ends_what_is_under_way() {
    for signal in ["-INT", "-TERM"] {
        let server = Server::start("world", &["--context", "1024"]);
        let body = json!({"prompt": "One", "max_tokens": 300, "seed": 1, "top_k": 5, "stream": true});
        let mut events = server.stream(COMPLETIONS, &body);
        let idle = server.connect();
        events.next().unwrap();
        server.signal(signal);
        let (_, finish, _) = collect(events);
        assert!(["length", "stop"].contains(&finish.as_str()), "{finish}");
        drop(idle);
        let (code, said) = server.ended();
        assert_eq!(code, Some(0), "{said}");
    }
}

#[test]
fn a_model_without_tokens_for_turns_completes_alone() {
    let server = Server::start("byte", &["--context", "64", "--name", "my/model"]);
    assert_eq!(server.get("/v1/models/my/model").status, 200);
    let body = json!({"model": "my/model", "prompt": "One", "max_tokens": 40, "seed": 1});
    let text = server.done(COMPLETIONS, &body);
    assert!(text["choices"][0]["text"].as_str().unwrap().contains('\u{fffd}'), "random bytes are no text: {text}");
    let reply = server.post(CHAT, &json!({"messages": asking("a")}).to_string());
    assert!(reply.status == 400 && reply.body.contains("hadal sft"), "{reply:?}");
}
