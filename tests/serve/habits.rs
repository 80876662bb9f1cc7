//! What clients do out of habit: send back what they got, ask by null, by HEAD, by names with spaces; and what is noted
//! of them.

use super::client::{Server, asking, collect, hadal, models, posting};
use super::says::{bytes, says};
use super::{CHAT, COMPLETIONS, with};
use hadal::chat::{Encoder, Template};
use hadal::config::sft::SftMask;
use hadal::data::record::{Role, Turn};
use hadal::tokenizer::Tokenizer;
use serde_json::{Value, json};

#[test]
fn a_message_of_the_server_can_be_sent_back_and_null_asks_for_nothing() {
    let server = Server::start("world", &["--context", "256"]);
    let first = server.done(CHAT, &json!({"messages": asking("Where?"), "max_tokens": 4, "seed": 1}));
    let turns = asking("Where?");
    let back = |message: Value| {
        let mut all = turns.clone();
        all.as_array_mut().unwrap().extend([message, asking("And now?")[0].clone()]);
        server.done(CHAT, &json!({"messages": all, "max_tokens": 1}))["usage"]["prompt_tokens"].clone()
    };
    let plain = first["choices"][0]["message"].clone();
    let tokens = back(plain.clone());
    for more in [
        json!({"tool_calls": null, "function_call": null, "audio": null, "annotations": [], "refusal": null}),
        json!({"tool_calls": [], "reasoning_content": null, "refusal": "", "name": null, "provider_fields": null}),
        json!({"reasoning_content": "", "audio": {}}),
    ] {
        assert_eq!(back(with(plain.clone(), more.clone())), tokens, "{more}");
    }
    let null = json!({"reasoning_effort": null, "prediction": null, "verbosity": null, "audio": null, "tools": null,
        "web_search_options": null, "function_call": null, "best_of": null, "suffix": null, "echo": null,
        "logprobs": null, "stop": null, "seed": null, "n": null, "max_tokens": null, "max_completion_tokens": 1,
        "temperature": null, "stream": null, "stream_options": null, "user": null, "response_format": null});
    server.done(CHAT, &with(null.clone(), json!({"messages": asking("a")})));
    server.done(COMPLETIONS, &with(null, json!({"prompt": "a", "max_tokens": 1, "max_completion_tokens": null})));
    let marked = format!("\u{feff}{}", json!({"prompt": "a", "max_tokens": 1}));
    assert_eq!(server.post(COMPLETIONS, &marked).status, 200, "a byte-order mark is no part of a text");
}

#[test]
fn what_may_be_got_may_be_asked_for_by_head_and_a_browser_finds_a_page() {
    let server = Server::start("world", &["--context", "64", "--name", "mon mod\u{e8}le/v2"]);
    for path in ["/", "/health", "/v1/models"] {
        let got = server.get(path);
        let head =
            server.send(format!("HEAD {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes());
        assert_eq!((got.status, head.status, head.body.as_str()), (200, 200, ""), "{path}");
        assert!(head.headers.contains(&format!("content-length: {}", got.body.len())), "{head:?}");
    }
    let page = server.get("/");
    assert!(page.headers.contains("text/plain") && page.body.contains("mon mod\u{e8}le/v2"), "{page:?}");
    assert!(page.body.contains("/v1/chat/completions"), "{page:?}");
    for name in ["mon%20mod%C3%A8le%2Fv2", "mon%20mod%c3%a8le/v2"] {
        assert_eq!(server.get(&format!("/v1/models/{name}")).json()["id"], "mon mod\u{e8}le/v2");
    }
    for name in ["mon%20mod%C3%A8le", "%", "%zz", "%ff", "mon+mod%C3%A8le%2Fv2"] {
        assert_eq!(server.get(&format!("/v1/models/{name}")).status, 404, "{name}");
    }
}

#[test]
fn prompts_of_one_request_draw_numbers_of_their_own() {
    let server = Server::start("world", &["--context", "64"]);
    let texts = |more: Value| -> Vec<String> {
        let body = with(json!({"max_tokens": 8, "temperature": 1.0}), more);
        let whole = server.done(COMPLETIONS, &body);
        whole["choices"].as_array().unwrap().iter().map(|c| c["text"].as_str().unwrap().to_owned()).collect()
    };
    let differ = |texts: &[String]| texts.iter().collect::<std::collections::HashSet<_>>().len();
    assert_eq!(differ(&texts(json!({"prompt": vec!["One"; 4]}))), 4, "without a seed");
    let seeded = texts(json!({"prompt": vec!["One"; 4], "seed": 5}));
    assert_eq!((differ(&seeded), &seeded), (4, &texts(json!({"prompt": "One", "n": 4, "seed": 5}))));
    // The first draws of other prompts have nothing in common either.
    let first =
        texts(json!({"prompt": (0..40).map(|i| vec![i + 5; 4]).collect::<Vec<_>>(), "max_tokens": 1, "seed": 1}));
    assert!(differ(&first) > 25, "{first:?}");
    let pair = texts(json!({"prompt": ["Two", "One"], "n": 2, "seed": 5}));
    assert_eq!(pair[2..], seeded[..2], "others in the request change nothing");
    assert_ne!(texts(json!({"prompt": "One", "seed": 6}))[0], seeded[1], "a choice is not the next seed's");
}

/// The tokens of a conversation by ChatML.
fn chatml(turns: &[(Role, &str)]) -> Vec<u32> {
    let tokenizer = Tokenizer::load("world").unwrap();
    let encoder = Encoder::new(Template::chatml(&tokenizer).unwrap(), tokenizer, SftMask::default()).unwrap();
    let turn = |&(role, content): &(Role, &str)| Turn::new(role, content);
    encoder.encode(&turns.iter().map(turn).collect::<Vec<_>>()).unwrap().ids
}

#[test]
fn a_last_message_of_the_assistant_is_continued() {
    let server = Server::start("world", &["--context", "256"]);
    let mut ids = chatml(&[(Role::User, "Where is Mara?"), (Role::Assistant, "Mara is")]);
    ids.truncate(ids.len() - 2); // the mark and the line feed that end it
    let settings = json!({"max_tokens": 12, "temperature": 0});
    let text = server.done(COMPLETIONS, &with(settings.clone(), json!({"prompt": ids})));
    let mut turns = asking("Where is Mara?");
    turns.as_array_mut().unwrap().push(json!({"role": "assistant", "content": "Mara is", "refusal": null}));
    for more in [json!({}), json!({"continue_final_message": true, "add_generation_prompt": false})] {
        let chat = server.done(CHAT, &with(with(settings.clone(), json!({"messages": turns})), more));
        assert_eq!(chat["choices"][0]["message"]["content"], text["choices"][0]["text"]);
        assert_eq!(chat["usage"], text["usage"]);
    }
}

#[test]
fn ends_of_the_files_and_stops_that_spell_special_tokens_end_completions_and_chats() {
    let (start, stop) = (257, 259);
    let words = [97, 98, start, 99, stop, 100];
    let model = models().join("says");
    says(&model, &bytes(&["<|im_start|>", "<|im_end|>", "<|stop|>"]), &words, &json!({"eos_token_id": [256, stop]}));
    let server = Server::start("says", &["--context", "64"]);
    let settings = json!({"max_tokens": 20, "temperature": 0});
    for (stops, expected) in [(json!(null), "abc"), (json!(["<|im_start|>"]), "ab"), (json!(["b<|im_start|>c"]), "a")] {
        let prompt = with(settings.clone(), json!({"prompt": "x", "stop": stops}));
        let chat = with(settings.clone(), json!({"messages": asking("x"), "stop": stops}));
        for (path, body) in [(COMPLETIONS, prompt), (CHAT, chat)] {
            let choice = server.done(path, &body)["choices"][0].clone();
            let text = choice["text"].as_str().or(choice["message"]["content"].as_str());
            assert_eq!((text, &choice["finish_reason"]), (Some(expected), &json!("stop")), "{stops}");
            let (text, finish, _) = collect(server.stream(path, &with(body, json!({"stream": true}))));
            assert_eq!((text.as_str(), finish.as_str()), (expected, "stop"), "{stops}");
        }
    }
}

#[test]
fn each_request_has_a_line_where_that_is_asked_for() {
    let mut command = hadal(models());
    command.args(["serve", "world", "--backend", "cpu", "--port", "0", "--context", "256", "-v"]);
    let server = Server::begin(command);
    server.get("/v1/models/a%1bb\u{e9}");
    let body = json!({"prompt": [5, 6, 7], "max_tokens": 9, "temperature": 0, "n": 2});
    server.done(COMPLETIONS, &body);
    collect(server.stream(COMPLETIONS, &with(body, json!({"stream": true, "n": 1}))));
    server.post(CHAT, &json!({"messages": asking("a"), "tools": [{}]}).to_string());
    let mut gone = server.connect();
    let long = json!({"prompt": "One", "max_tokens": 200, "temperature": 0});
    std::io::Write::write_all(&mut gone, &posting(COMPLETIONS, &long.to_string())).unwrap();
    drop(gone);
    server.wait_for(0);
    #[cfg(unix)]
    {
        server.signal("-TERM");
        let (_, said) = server.ended();
        let lines: Vec<&str> = said.lines().filter(|line| line.contains(" /v1/")).collect();
        for (at, method, words) in [
            (0, "GET /v1/models/", "404"),
            (1, "POST /v1/completions 200", ": 3 tokens in, 18 out, length"),
            (2, "POST /v1/completions 200", ": 3 tokens in, 9 out, length"),
            (3, "POST /v1/chat/completions 400", ": tools is not supported by this server; leave it out"),
        ] {
            assert!(lines[at].starts_with(method) && lines[at].contains(words), "{said}");
        }
        assert!(!said.contains('\u{1b}'), "{said}");
    }
}
