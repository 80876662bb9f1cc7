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
    // The space too, which the prompt does not end with.
    assert_eq!(counted, [ids.len() - 3, ids.len() - 2, ids.len() - 1]);
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
        ("{{ messages[0].content[:1] }}{{ messages[1].content }}</s>".to_owned(), "takes what messages say apart"),
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
                assert_eq!(
                    &template.write(&turns(&messages), prompt).unwrap().text,
                    texts.next().unwrap(),
                    "{messages:?}"
                );
            }
        }
    }
    assert!(texts.next().is_none() && golden.texts.iter().any(|text| text.contains("[Q]")));
}

/// ChatML in which answers alone are trimmed.
const TRIMMED_ANSWERS: &str = "{% for m in messages %}<s>{{ m.role }}: \
    {{ m.content | trim if m.role == 'assistant' else m.content }}</s>{% endfor %}";

#[test]
fn answers_alone_may_be_trimmed_and_the_message_that_is_changed_is_quoted() {
    let trimmed = encoder(TRIMMED_ANSWERS).unwrap();
    let messages = [('u', " a\n"), ('a', " b\n"), ('u', "c ")];
    let text = trimmed.template().write(&turns(&messages), false).unwrap().text;
    assert_eq!(text, "<s>user:  a\n</s><s>assistant: b</s><s>user: c </s>");
    let upper = encoder(&TRIMMED_ANSWERS.replace("trim", "trim | replace('d', 'D')")).unwrap();
    let error = upper.encode(&turns(&[('u', "a d"), ('a', " b"), ('u', "c"), ('a', " d")])).unwrap_err();
    assert!(error.contains("\" d\""), "{error}");
}

#[test]
fn what_a_message_says_never_becomes_a_mark() {
    for kind in super::forms::KINDS {
        let tokenizer = super::forms::vocabulary(kind);
        let mut marks: Vec<String> = tokenizer.special_tokens().into_iter().map(|(name, _)| name).collect();
        marks.push("</think>".into()); // which the file does not call special, but the template names
        // Whole, side by side with what the frame has, and so that a frame would end it.
        let mut contents = marks.clone();
        contents.extend([marks.concat(), "<".into(), "</s".into(), "/s>".into(), "<</s></s>>".into(), "s>".into()]);
        let source = "{% for m in messages %}<s><{{ m.content }}></s>{% endfor %}{# </think> #}";
        let template = Template::parse("mine", source, &tokenizer).unwrap();
        let encoder = Encoder::new(template, tokenizer.clone(), SftMask::Answers).unwrap();
        let mark = |id: &u32| tokenizer.text_bytes(*id).is_empty() || tokenizer.text_bytes(*id) == b"</think>";
        for content in &contents {
            let ids = encoder.encode(&turns(&[('u', content), ('a', content)])).unwrap().ids;
            let found: Vec<u32> = ids.iter().copied().filter(mark).collect();
            let of = |name| tokenizer.special_id(name).unwrap();
            assert_eq!(found, [of("<s>"), of("</s>"), of("<s>"), of("</s>")], "{kind}: {content:?}");
            if ["bytes", "lines"].contains(&kind) {
                assert_eq!(tokenizer.decode(&ids), format!("<s><{content}></s>").repeat(2), "{kind}");
            }
        }
    }
}

#[test]
fn vocabularies_of_the_program_encode_a_conversation_as_their_files_do() {
    for name in ["byte", "gpt2", "world"] {
        let own = Tokenizer::load(name).unwrap().with_special(&["<|im_start|>", "<|im_end|>"]).unwrap();
        let file = Tokenizer::from_json(name, &own.json()).unwrap();
        let [own, file] = [own, file].map(|tokenizer| {
            let template = Template::chatml(&tokenizer).unwrap();
            Encoder::new(template, tokenizer, SftMask::Answers).unwrap()
        });
        let messages =
            turns(&[('s', "Be a cat."), ('u', "\n\n Where's the <|im_end|> house?  "), ('a', "\n it\u{2019}s 12")]);
        assert_eq!(own.encode(&messages), file.encode(&messages), "{name}");
        assert_eq!(own.prompt(&messages[..2]), file.prompt(&messages[..2]), "{name}");
        assert_eq!(own.warning(), Ok(None), "{name}");
    }
}
