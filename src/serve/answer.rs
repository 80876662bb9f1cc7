//! What a client gets: one JSON object when all is drawn, or chunks of it as server-sent events while it is drawn.

use super::ask::{Ask, Kind};
use super::engine::{Replies, What};
use super::line::Line;
use super::refusal::Refusal;
use super::{Served, now};
use crate::generate::{Request, Text};
use hyper::StatusCode;
use hyper::body::{Body, Bytes, Frame};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// One of the sequences of an answer.
pub struct Choice {
    text: Text,
    /// What it has said, where that is sent as a whole.
    said: String,
    tokens: usize,
    finish: Option<&'static str>,
}

/// An answer under way. Dropped, it cancels what is not drawn yet.
pub struct Answer {
    kind: Kind,
    id: String,
    created: u64,
    model: String,
    prompt_tokens: usize,
    usage: bool,
    choices: Vec<Choice>,
    replies: Replies,
    line: Arc<Line>,
}

/// What `ask` is answered with, before anything is drawn.
pub fn choices(ask: &Ask, served: &Served) -> Vec<Choice> {
    let choice = |request: &Request| {
        let text = Text::new(&served.tokenizer, &request.prompt, &ask.stops).after(&ask.lead);
        Choice { text, said: String::new(), tokens: 0, finish: None }
    };
    ask.requests.iter().map(choice).collect()
}

impl Answer {
    /// The answer to `ask` of these [`choices`]; `replies` says what its sequences get, `line` is told of it.
    pub fn new(ask: &Ask, choices: Vec<Choice>, replies: Replies, served: &Served, line: Arc<Line>) -> Answer {
        let prefix = if ask.kind == Kind::Chat { "chatcmpl" } else { "cmpl" };
        Answer {
            kind: ask.kind,
            id: format!("{prefix}-{:032x}", rand::random::<u128>()),
            created: now(),
            model: served.name.clone(),
            prompt_tokens: ask.prompt_tokens,
            usage: ask.usage,
            choices,
            replies,
            line,
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// If the engine fails.
    pub async fn whole(mut self) -> Result<Value, Refusal> {
        while !self.is_done() {
            let (index, what) = self.replies.receiver.recv().await.unwrap_or((0, What::Failed(ENDED.to_owned())));
            let text = self.take(index, what)?;
            self.choices[index].said.push_str(&text);
        }
        let choice = |(index, choice): (usize, &Choice)| {
            let (said, finish) = (&choice.said, choice.finish);
            match self.kind {
                Kind::Completion => json!({"index": index, "text": said, "logprobs": null, "finish_reason": finish}),
                Kind::Chat => json!({
                    "index": index, "message": {"role": "assistant", "content": said, "refusal": null},
                    "logprobs": null, "finish_reason": finish,
                }),
            }
        };
        let choices = self.choices.iter().enumerate().map(choice).collect();
        let object = if self.kind == Kind::Chat { "chat.completion" } else { "text_completion" };
        let mut whole = self.envelope(object, choices);
        whole["usage"] = self.counts();
        Ok(whole)
    }

    fn is_done(&self) -> bool {
        self.choices.iter().all(|choice| choice.finish.is_some())
    }

    /// Takes in what a choice got; gives its new text.
    fn take(&mut self, index: usize, what: What) -> Result<String, Refusal> {
        let choice = &mut self.choices[index];
        if choice.finish.is_some() {
            return Ok(String::new()); // drawn behind a stop, before the engine heard of it
        }
        match what {
            What::Token(token) => {
                choice.tokens += 1;
                let text = choice.text.push(token);
                if choice.text.is_stopped() {
                    choice.finish = Some("stop");
                    self.replies.cancel(index);
                }
                Ok(text)
            }
            What::Done(finish) => {
                choice.finish = Some(finish.name().map_err(|error| failed(error.to_string()))?);
                Ok(choice.text.finish())
            }
            What::Failed(reason) => Err(failed(reason)),
        }
    }

    fn envelope(&self, object: &str, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices,
        })
    }

    fn counts(&self) -> Value {
        let (prompt, drawn) = (self.prompt_tokens, self.choices.iter().map(|choice| choice.tokens).sum::<usize>());
        json!({"prompt_tokens": prompt, "completion_tokens": drawn, "total_tokens": prompt + drawn})
    }
}

fn failed(reason: String) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "engine_failed", reason)
}

impl Drop for Answer {
    /// Says what was drawn, also for a client that has gone.
    fn drop(&mut self) {
        let (prompt, drawn) = (self.prompt_tokens, self.choices.iter().map(|choice| choice.tokens).sum::<usize>());
        let mut ends: Vec<&str> = self.choices.iter().map(|choice| choice.finish.unwrap_or("cancelled")).collect();
        ends.sort_unstable();
        ends.dedup();
        self.line.say(format!("{prompt} tokens in, {drawn} out, {}", ends.join(" and ")));
    }
}

/// What is said where the engine has ended without a word.
const ENDED: &str = "the server is stopping";

/// An answer as server-sent events.
pub struct Events {
    answer: Answer,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Begin,
    Going,
    Over,
}

impl Events {
    /// The events of an answer that has not begun.
    pub fn new(answer: Answer) -> Events {
        Events { answer, state: State::Begin }
    }

    fn chunk(&self, out: &mut String, index: usize, delta: &Value, finish: Option<&str>) {
        let choice = match self.answer.kind {
            Kind::Completion => {
                let text = delta.get("content").unwrap_or(&Value::Null).as_str().unwrap_or_default();
                json!({"index": index, "text": text, "logprobs": null, "finish_reason": finish})
            }
            Kind::Chat => json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": finish}),
        };
        self.event(out, vec![choice], Value::Null);
    }

    fn event(&self, out: &mut String, choices: Vec<Value>, usage: Value) {
        let object = if self.answer.kind == Kind::Chat { "chat.completion.chunk" } else { "text_completion" };
        let mut event = self.answer.envelope(object, choices);
        if self.answer.usage {
            event["usage"] = usage;
        }
        write(out, &event);
    }

    /// What comes before the first token.
    fn begin(&self, out: &mut String) {
        if self.answer.kind == Kind::Chat {
            let delta = json!({"role": "assistant", "content": ""});
            (0..self.answer.choices.len()).for_each(|index| self.chunk(out, index, &delta, None));
        }
    }

    /// What comes of a reply.
    fn go_on(&mut self, index: usize, what: What, out: &mut String) {
        let before = self.answer.choices[index].finish;
        match self.answer.take(index, what) {
            Ok(text) => {
                if !text.is_empty() {
                    self.chunk(out, index, &json!({"content": text}), None);
                }
                let finish = self.answer.choices[index].finish;
                if finish != before {
                    self.chunk(out, index, &json!({}), finish);
                }
                if self.answer.is_done() {
                    if self.answer.usage {
                        self.event(out, Vec::new(), self.answer.counts());
                    }
                    self.end(out);
                }
            }
            Err(refusal) => {
                write(out, &refusal.body());
                self.end(out);
            }
        }
    }

    fn end(&mut self, out: &mut String) {
        out.push_str("data: [DONE]\n\n");
        self.state = State::Over;
    }
}

fn write(out: &mut String, event: &Value) {
    out.push_str("data: ");
    out.push_str(&event.to_string()); // JSON escapes line feeds, which would end the event
    out.push_str("\n\n");
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    /// All that has come since the last frame.
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut out = String::new();
        if self.state == State::Begin {
            self.begin(&mut out);
            self.state = State::Going;
        }
        while self.state == State::Going {
            match self.answer.replies.receiver.poll_recv(cx) {
                Poll::Ready(Some((index, what))) => self.go_on(index, what, &mut out),
                Poll::Ready(None) => self.go_on(0, What::Failed(ENDED.to_owned()), &mut out),
                Poll::Pending => break,
            }
        }
        match (out.is_empty(), &self.state) {
            (false, _) => Poll::Ready(Some(Ok(Frame::data(out.into())))),
            (true, State::Over) => Poll::Ready(None),
            (true, _) => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Over
    }
}
