//! What a client asks for: the body of `/v1/completions` and `/v1/chat/completions` as requests to the generator.

use super::Served;
use super::fields::Fields;
use super::messages::chat;
use super::refusal::Refusal;
use crate::generate::{Request, Sampling};
use hyper::StatusCode;
use serde_json::{Value, json};

/// Texts that end an answer, at most.
const MOST_STOPS: usize = 16;
/// Bytes of one of them: each token is compared with all of their beginnings.
const LONGEST_STOP: usize = 256;
/// Highest temperature, as OpenAI has it: beyond it a client means something else.
const HOTTEST: f64 = 2.0;
/// Tokens of a completion that says nothing about it, as OpenAI has it.
const COMPLETION_TOKENS: usize = 16;

/// Which of the two interfaces a request came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Texts that are continued.
    Completion,
    /// Conversations that are answered.
    Chat,
}

/// A request, understood and checked.
#[derive(Debug)]
pub struct Ask {
    /// By which interface it came.
    pub kind: Kind,
    /// The sequences: all choices of the first prompt, then those of the second.
    pub requests: Vec<Request>,
    /// Tokens of the prompts, each counted once.
    pub prompt_tokens: usize,
    /// What the chat template writes between its prompt and an answer: generated, and no part of the answer.
    pub lead: String,
    /// Texts that end an answer.
    pub stops: Vec<String>,
    /// Whether tokens are sent as they come.
    pub stream: bool,
    /// Whether the stream ends with a count of tokens.
    pub usage: bool,
}

impl Ask {
    /// Reads a body; `most` sequences are taken at a time.
    pub fn read(kind: Kind, body: &[u8], served: &Served, most: usize) -> Result<Ask, Refusal> {
        let mut fields = Fields::read(body)?;
        check_model(&mut fields, served)?;
        let (prompts, lead) = match kind {
            Kind::Completion => (prompts(&mut fields, served)?, String::new()),
            Kind::Chat => {
                let (prompt, lead) = chat(&mut fields, served)?;
                (vec![prompt], lead)
            }
        };
        let sampling = sampling(&mut fields)?;
        let max_tokens = max_tokens(&mut fields, kind)?.unwrap_or(served.capacity);
        let stops = stops(&mut fields)?;
        let n = fields.count("n", 1)?.unwrap_or(1);
        let stream = fields.flag("stream")?;
        let usage = stream_options(&mut fields)?;
        unsupported(&mut fields, kind, n)?;
        fields.end()?;
        if n.saturating_mul(prompts.len()) > most {
            return Err(Refusal::field(
                "n",
                format_args!("asks for more than the {most} sequences that fit at a time"),
            ));
        }
        Ok(Ask {
            kind,
            requests: Request::all(&prompts, n, (max_tokens, &served.ends), &sampling),
            prompt_tokens: prompts.iter().map(Vec::len).sum(),
            lead,
            stops,
            stream,
            usage,
        })
    }
}

/// Refuses another model than the one that is served; a request may leave it out.
fn check_model(fields: &mut Fields, served: &Served) -> Result<(), Refusal> {
    match fields.take("model") {
        Some(Value::String(name)) if name == served.name => Ok(()),
        Some(Value::String(name)) => {
            Err(Refusal { param: Some("model".to_owned()), ..super::no_such_model(&name, served) })
        }
        Some(_) => Err(Refusal::field("model", "must be a string")),
        None => Ok(()),
    }
}

/// `prompt`: a text, a list of texts, a list of tokens, or a list of lists of tokens.
fn prompts(fields: &mut Fields, served: &Served) -> Result<Vec<Vec<u32>>, Refusal> {
    let wrong = || Refusal::field("prompt", "must be a string, a list of strings, or tokens");
    let prompts = match fields.take("prompt").ok_or_else(|| Refusal::field("prompt", "is missing"))? {
        Value::String(text) => vec![served.tokenizer.begun(&text)],
        Value::Array(list) => match list.first() {
            None => return Err(Refusal::field("prompt", "is an empty list")),
            Some(Value::Number(_)) => vec![tokens(&list, served)?],
            Some(_) => {
                let each = list.iter().map(|item| match item {
                    Value::String(text) => Ok(served.tokenizer.begun(text)),
                    Value::Array(list) => tokens(list, served),
                    _ => Err(wrong()),
                });
                each.collect::<Result<_, _>>()?
            }
        },
        _ => return Err(wrong()),
    };
    prompts.iter().try_for_each(|prompt| fits("prompt", prompt, served)).map(|()| prompts)
}

fn tokens(list: &[Value], served: &Served) -> Result<Vec<u32>, Refusal> {
    let known = served.tokenizer.vocab_size();
    let id = |value: &Value| value.as_u64().filter(|&id| id < known as u64).map(|id| id as u32);
    let wrong = || Refusal::field("prompt", format_args!("must have tokens below {known} alone in a list of tokens"));
    list.iter().map(|value| id(value).ok_or_else(wrong)).collect()
}

/// Refuses a prompt that leaves no room for an answer.
pub(super) fn fits(name: &str, prompt: &[u32], served: &Served) -> Result<(), Refusal> {
    let (tokens, capacity) = (prompt.len(), served.capacity);
    match tokens {
        0 => Err(Refusal::field(name, "has no token")),
        _ if tokens < capacity => Ok(()),
        _ => {
            let reason = format!("has {tokens} tokens; with its answer there is room for {capacity}");
            Err(Refusal { code: Some("context_length_exceeded"), ..Refusal::field(name, reason) })
        }
    }
}

/// How tokens are drawn; without `seed`, each time anew.
fn sampling(fields: &mut Fields) -> Result<Sampling, Refusal> {
    let seed = match fields.take("seed") {
        None => rand::random(),
        Some(seed) => seed
            .as_u64()
            .or(seed.as_i64().map(i64::cast_unsigned))
            .ok_or_else(|| Refusal::field("seed", "must be a whole number"))?,
    };
    let sampling = Sampling {
        repetition_penalty: fields.number("repetition_penalty", 1.0)?,
        temperature: fields.number("temperature", 1.0)?,
        top_k: fields.count("top_k", 0)?.unwrap_or(0),
        top_p: fields.number("top_p", 1.0)?,
        min_p: fields.number("min_p", 0.0)?,
        seed,
    };
    if sampling.temperature > HOTTEST {
        let reason = format!("is {}; it must be from 0 to {HOTTEST}", sampling.temperature);
        return Err(Refusal::field("temperature", reason));
    }
    sampling.validate(str::to_owned).map_err(|error| {
        let message = error.to_string();
        let param = message.split(' ').next().map(str::to_owned);
        Refusal { status: StatusCode::BAD_REQUEST, message, param, code: None }
    })?;
    Ok(sampling)
}

fn max_tokens(fields: &mut Fields, kind: Kind) -> Result<Option<usize>, Refusal> {
    let tokens = fields.count("max_tokens", 1)?;
    match kind {
        Kind::Completion => Ok(tokens.or(Some(COMPLETION_TOKENS))),
        Kind::Chat => Ok(fields.count("max_completion_tokens", 1)?.or(tokens)),
    }
}

/// `stop`: a text or several.
fn stops(fields: &mut Fields) -> Result<Vec<String>, Refusal> {
    let list = match fields.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(one) => vec![one],
    };
    let text =
        |value: &Value| value.as_str().filter(|text| (1..=LONGEST_STOP).contains(&text.len())).map(str::to_owned);
    let stops: Option<Vec<String>> = list.iter().map(text).collect();
    let reason = format_args!("must be up to {MOST_STOPS} strings of 1 to {LONGEST_STOP} bytes").to_string();
    stops.filter(|stops| stops.len() <= MOST_STOPS).ok_or_else(|| Refusal::field("stop", reason))
}

/// Whether the stream is to end with a count of tokens.
fn stream_options(fields: &mut Fields) -> Result<bool, Refusal> {
    match fields.take("stream_options") {
        None => Ok(false),
        Some(Value::Object(options)) => {
            let usage = options.get("include_usage").unwrap_or(&Value::Bool(false));
            let reason = "must be true or false";
            usage.as_bool().ok_or_else(|| Refusal::field("stream_options.include_usage", reason))
        }
        Some(_) => Err(Refusal::field("stream_options", "must be an object")),
    }
}

/// Refuses what OpenAI's interface has beyond this one.
fn unsupported(fields: &mut Fields, kind: Kind, n: usize) -> Result<(), Refusal> {
    for name in ["frequency_penalty", "presence_penalty"] {
        fields.unsupported(name, &[json!(0), json!(0.0)])?;
    }
    fields.unsupported("logit_bias", &[json!({})])?;
    match kind {
        Kind::Completion => {
            fields.unsupported("logprobs", &[])?;
            fields.unsupported("echo", &[json!(false)])?;
            fields.unsupported("suffix", &[json!("")])?;
            fields.unsupported("best_of", &[json!(n)])
        }
        Kind::Chat => {
            fields.unsupported("logprobs", &[json!(false)])?;
            fields.unsupported("top_logprobs", &[json!(0)])?;
            fields.unsupported("response_format", &[json!({"type": "text"})])?;
            fields.unsupported("modalities", &[json!(["text"])])?;
            fields.unsupported("tool_choice", &[json!("none"), json!("auto")])?;
            ["tools", "functions"].iter().try_for_each(|name| fields.unsupported(name, &[json!([])]))
        }
    }
}
