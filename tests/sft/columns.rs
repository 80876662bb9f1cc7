//! What each stage takes of a line that has more than one shape's keys, and what becomes of the columns beside these.

use super::labels::{encoder, script};
use super::turns;
use hadal::chat::Template;
use hadal::chat::conversation::conversation;
use hadal::chat::preference::Pair;
use hadal::config::sft::SftMask;
use hadal::data::questions::Question;
use hadal::data::record::{Purpose, Turn, read_for};

fn chat(line: &str) -> Result<Option<Vec<Turn>>, String> {
    conversation(read_for(line.as_bytes(), Purpose::Chat)?.1)
}

fn pair(line: &str) -> Result<Pair, String> {
    Pair::new(read_for(line.as_bytes(), Purpose::Pair)?.1)
}

fn question(line: &str) -> Result<Question, String> {
    Question::new(read_for(line.as_bytes(), Purpose::Question)?.1)
}

#[test]
fn a_stage_takes_the_shape_that_it_can_use() {
    for line in [
        r#"{"instruction": "Hi", "input": "", "output": "Yo", "text": "Below is .. Hi .. Yo"}"#,
        r#"{"text": "Hi Yo", "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}"#,
        r#"{"text": null, "prompt": "Hi", "completion": "Yo", "messages": null, "chosen": null, "rejected": null}"#,
        r#"{"prompt": "Hi", "chosen": "Yo", "rejected": "No", "text": "x"}"#,
    ] {
        assert_eq!(chat(line).unwrap().unwrap(), turns(&[('u', "Hi"), ('a', "Yo")]), "{line}");
    }
    let wide = r#"{"prompt": "Hi", "chosen": "Yo", "rejected": "No", "text": "x", "messages": null, "answer": "42"}"#;
    let found = pair(wide).unwrap();
    assert_eq!((found.prompt, found.chosen), (turns(&[('u', "Hi")]), turns(&[('a', "Yo")])));
    let found = question(wide).unwrap();
    assert_eq!((found.prompt, found.reference.as_deref()), (turns(&[('u', "Hi")]), Some("42")));
    assert!(chat(r#"{"text": "x"}"#).unwrap_err().starts_with("has a text, not a conversation"));
    assert!(pair(r#"{"text": "x", "prompt": "a"}"#).unwrap_err().starts_with("has no \"chosen\""));
    assert!(chat(r#"{"chosen": "x", "rejected": null, "text": "y", "messages": []}"#).is_err());
}

#[test]
fn what_a_pair_answers_is_read_from_every_column_that_says_it() {
    for (line, prompt) in [
        (r#"{"question": "Hi", "chosen": "The Yo", "rejected": "The No"}"#, "Hi"),
        (r#"{"instruction": "Hi", "input": "there", "chosen": "The Yo", "rejected": "The No"}"#, "Hi\n\nthere"),
        (r#"{"input": "Hi", "chosen": "The Yo", "rejected": "The No", "prompt": null}"#, "Hi"),
        (r#"{"prompt": "User: Hi", "question": "Hi", "chosen": "The Yo", "rejected": "The No"}"#, "User: Hi"),
        (
            r#"{"question": "Hi", "chosen": [{"role": "assistant", "content": "The Yo"}],
            "rejected": [{"role": "assistant", "content": "The No"}]}"#,
            "Hi",
        ),
        (
            r#"{"instruction": "Hi", "chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant",
            "content": "The Yo"}], "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant",
            "content": "The No"}]}"#,
            "Hi",
        ),
    ] {
        let found = pair(line).unwrap();
        assert_eq!(found.prompt, turns(&[('u', prompt)]), "{line}");
        let answers = [found.chosen, found.rejected];
        assert_eq!(answers, [turns(&[('a', "The Yo")]), turns(&[('a', "The No")])], "{line}");
    }
    for line in [
        r#"{"question": "Hi", "prompt": "Go", "chosen": "a", "rejected": "b"}"#,
        r#"{"question": "Hi", "instruction": "Go", "chosen": "a", "rejected": "b"}"#,
    ] {
        assert!(pair(line).unwrap_err().starts_with("asks one thing under"), "{line}");
    }
    for key in ["messages", "query", "problem", "context", "user"] {
        let asked = if key == "messages" { r#"[{"role": "user", "content": "Hi"}]"# } else { "\"Hi\"" };
        let line = format!(r#"{{"{key}": {asked}, "chosen": "The Yo", "rejected": "The No"}}"#);
        assert!(pair(&line).unwrap_err().contains(&format!("has {key:?} beside \"chosen\"")), "{line}");
    }
    let spelt = r#"{"messages": [{"role": "user", "content": "Hi"}], "prompt": "Hi", "chosen": "a", "rejected": "b"}"#;
    assert!(pair(spelt).is_ok());
}

#[test]
fn a_message_has_a_name_that_templates_may_write() {
    let line = r#"{"messages": [{"role": "user", "name": "bob", "content": "Hi"},
        {"role": "assistant", "content": "Yo"}]}"#;
    let mut found = chat(line).unwrap().unwrap();
    assert_eq!(found[0].name.as_deref(), Some("bob"));
    let tokenizer = super::forms::vocabulary("bytes");
    let name = "{% if m.name is defined %}{{ m.name }}: {% endif %}";
    let source = format!("{{% for m in messages %}}{name}{{{{ m.content }}}}</s>{{% endfor %}}");
    let template = Template::parse("named", &source, &tokenizer).unwrap();
    assert_eq!(template.write(&found, false).unwrap().text, "bob: Hi</s>Yo</s>");
    found[0].name = Some("</s>".to_owned());
    assert!(template.write(&found, false).unwrap_err().contains("names of who speaks"));
    let other = Template::parse("other", "{% for m in messages %}{{ m.content }}</s>{% endfor %}", &tokenizer).unwrap();
    assert_eq!(other.write(&found, false).unwrap().text, "Hi</s>Yo</s>");
}

#[test]
fn a_system_message_and_a_history_beside_come_first() {
    let lead = [('s', "r"), ('u', "q"), ('a', "b"), ('u', "Hi"), ('a', "Yo")];
    for (line, first) in [
        (r#"{"system": "r", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]}"#, 0),
        (r#"{"system_prompt": "r", "question": "Hi", "answer": "Yo"}"#, 0),
        (r#"{"system_message": "r", "prompt": "Hi", "completion": "Yo"}"#, 0),
        (r#"{"system": "r", "history": [["q", "b"]], "instruction": "Hi", "output": "Yo"}"#, 2),
        (r#"{"system": "r", "prompt": "Hi", "completion": "Yo"}"#, 0),
        (
            r#"{"system": "r", "messages": [{"role": "developer", "content": "r"}, {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Yo"}]}"#,
            0,
        ),
    ] {
        let wanted = turns(&[&lead[..1], &lead[3 - first..]].concat());
        assert_eq!(chat(line).unwrap().unwrap(), wanted, "{line}");
    }
    let found = pair(r#"{"system": "r", "question": "Hi", "chosen": "Yo", "rejected": "No"}"#).unwrap();
    assert_eq!(found.prompt, turns(&[('s', "r"), ('u', "Hi")]));
    let found = question(r#"{"system": "r", "prompt": "Hi", "answer": "Yo"}"#).unwrap();
    assert_eq!((found.prompt, found.reference.as_deref()), (turns(&[('s', "r"), ('u', "Hi")]), Some("Yo")));
    let two = r#"{"system": "r", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yo"}]}"#;
    assert_eq!(chat(two).unwrap_err(), "has one \"system\" beside its messages and another among them");
}

#[test]
fn a_message_of_weight_0_is_read_and_not_learnt() {
    let line = |key: &str, value: &str| {
        format!(
            r#"{{"messages": [{{"role": "user", "content": "a"}},
            {{"role": "assistant", "content": "b", "{key}": {value}}},
            {{"role": "user", "content": "c", "{key}": null}}, {{"role": "assistant", "content": "d"}}]}}"#
        )
    };
    let encoder = encoder(SftMask::Answers);
    let encoded = |key, value| encoder.encode(&chat(&line(key, value)).unwrap().unwrap()).unwrap();
    let without = script("^user\na$\n^assistant\nb$\n^user\nc$\n^assistant\n[d$]\n");
    let with = script("^user\na$\n^assistant\n[b$]\n^user\nc$\n^assistant\n[d$]\n");
    for (key, no, yes) in
        [("weight", "0", "1"), ("weight", "0.0", "1.0"), ("train", "false", "true"), ("loss", "0", "1")]
    {
        assert_eq!(encoded(key, no), without, "{key} {no}");
        assert_eq!(encoded(key, yes), with, "{key} {yes}");
    }
    let both = r#"{"messages": [{"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "weight": 0, "train": true}]}"#;
    assert!(chat(both).unwrap_err().contains("has both \"weight\" and \"train\""));
    let last =
        r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]}"#;
    assert!(question(last).unwrap_err().starts_with("has a last answer that is not to be learnt"));
    let chosen = r#"{"prompt": [{"role": "user", "content": "a"}], "rejected": [{"role": "assistant", "content": "c"}],
        "chosen": [{"role": "assistant", "content": "b", "weight": 0}]}"#;
    assert!(pair(chosen).unwrap_err().starts_with("has under \"chosen\" a message that is not to be learnt"));
}

#[test]
fn what_is_right_is_read_beside_every_shape_that_asks() {
    for line in [
        r#"{"answer": "42", "messages": [{"role": "user", "content": "Hi"}, {"role":"assistant","content":"long"}]}"#,
        r#"{"prompt": "Hi", "completion": "long", "ground_truth": 42}"#,
        r#"{"instruction": "Hi", "output": "long", "solution": "42"}"#,
        r#"{"prompt": "Hi", "completion": "long", "label": false, "answer": "42"}"#,
    ] {
        let found = question(line).unwrap();
        assert_eq!((found.prompt, found.reference.as_deref()), (turns(&[('u', "Hi")]), Some("42")), "{line}");
    }
    let unwanted = r#"{"instruction": "Hi", "output": "long", "kto_tag": false}"#;
    assert_eq!(chat(unwanted).unwrap(), None);
    assert_eq!(question(unwanted).unwrap().reference, None);
    assert_eq!(chat(&unwanted.replace("false", "true")).unwrap().unwrap(), turns(&[('u', "Hi"), ('a', "long")]));
}
