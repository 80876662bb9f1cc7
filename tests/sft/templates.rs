//! Chat templates of the user's: what transformers would write, and what is refused.

use super::turns;
use hadal::chat::{Encoder, Template};
use hadal::config::sft::SftMask;
use hadal::tokenizer::Tokenizer;

fn tokenizer() -> Tokenizer {
    Tokenizer::load("byte").unwrap().with_special(&["<s>", "</s>"]).unwrap()
}

/// The encoder of a template, or why there is none.
fn encoder(source: &str) -> Result<Encoder, String> {
    let tokenizer = tokenizer();
    let template = Template::parse("mine.jinja", source, &tokenizer).map_err(|e| e.to_string())?;
    Encoder::new(template, tokenizer, SftMask::Answers).map_err(|e| e.to_string())
}

/// In the style of published templates: blocks on lines of their own, a loop, a condition, trimmed contents.
const SOUND: &str = "{%- for m in messages %}
    {%- if m['role'] == 'user' %}
        {{- '<s>[Q] ' + m.content.strip() + ' [/Q]' }}
    {%- elif m.role == 'assistant' %}
        {{- ' ' ~ (m.content | trim) ~ '</s>' }}
    {%- else %}
        {{- raise_exception('no ' ~ m.role) }}
    {%- endif %}
{%- endfor %}";

#[test]
fn a_template_of_another_style_gives_its_own_marks_and_labels() {
    let encoder = encoder(SOUND).unwrap();
    let encoded = encoder.encode(&turns(&[('u', " <s>a "), ('a', "b\n")])).unwrap();
    let mut ids = vec![257];
    ids.extend("[Q] <s>a [/Q] b".bytes().map(u32::from));
    ids.push(258);
    assert_eq!(encoded.ids, ids);
    let counted: Vec<usize> = (0..ids.len()).filter(|&i| encoded.counted[i]).collect();
    assert_eq!(counted, [ids.len() - 2, ids.len() - 1]);
    let error = encoder.encode(&turns(&[('s', "x"), ('u', "a"), ('a', "b")])).unwrap_err();
    assert!(error.contains("no system"), "{error}");
}

#[test]
fn a_template_that_is_broken_endless_or_ambiguous_is_refused_in_one_line() {
    let each = |body: &str| format!("{{% for m in messages %}}{body}{{% endfor %}}");
    let endless = "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}";
    let doubling = format!("{{% set x = 'x' %}}{}", "{% set x = x ~ x %}".repeat(64));
    let huge = "{{ 'x' * 99999999 }}";
    let cases = [
        ("{% for m in messages %}".to_owned(), "is no chat template"),
        ("{{ messages[0].content".to_owned(), "is no chat template"),
        (endless.to_owned(), "without end"),
        (doubling, "without end"),
        (huge.to_owned(), "without end"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned(), "fails"),
        ("{{ nothing.there.at_all }}".to_owned(), "fails"),
        ("{% include 'x' %}".to_owned(), ""),
        ("{{ messages[0].content }}</s>".to_owned(), "does not give message 2 back"),
        ("{{ messages[1].content }}{{ messages[0].content }}</s>".to_owned(), "does not give message"),
        (each("{{ m.content }}{{ m.content }}</s>"), "more than once"),
        (each("{{ m.content | upper }}</s>"), "changes what messages say"),
        (each("{{ m.content }}"), "ends no answer with a special token"),
    ];
    for (source, words) in cases {
        let error = encoder(&source).err().unwrap_or_default();
        assert!(error.contains(words) && !error.is_empty(), "{source:.80}: {error:?}");
        assert!(!error.contains('\n') && error.len() < 1000, "{error}");
    }
}

/// What `tests/golden/make_chat.py` wrote.
#[derive(serde::Deserialize)]
struct Golden {
    style: String,
    conversations: Vec<Vec<(String, String)>>,
    texts: Vec<String>,
}

#[test]
fn rendered_text_is_that_of_transformers() {
    let golden: Golden = serde_json::from_str(include_str!("../golden/chat/text.json")).unwrap();
    // Its begin and end token are one and the same, as the vocabulary's.
    let tokenizer = tokenizer();
    let mut texts = golden.texts.iter();
    for source in [hadal::tokenizer::CHATML, &golden.style] {
        let template =
            Template::parse("golden", &source.replace("bos_token", "'<s>'").replace("eos_token", "'<s>'"), &tokenizer);
        let template = template.unwrap();
        for conversation in &golden.conversations {
            let letter = |role: &str| role.chars().next().unwrap();
            let messages: Vec<_> = conversation.iter().map(|(role, text)| (letter(role), text.as_str())).collect();
            for prompt in [false, true] {
                assert_eq!(&template.render(&turns(&messages), prompt).unwrap(), texts.next().unwrap(), "{messages:?}");
            }
        }
    }
    assert!(texts.next().is_none() && golden.texts.iter().any(|text| text.contains("[Q]")));
}
