//! How a conversation is written: ChatML, or a Jinja template of the user's, which is read as hostile.
//!
//! A template is never run on its own over a conversation: its text would not tell what is a mark and what somebody
//! wrote. It is rendered with a placeholder for each message's content, and must give each of them back once; what
//! stands between is the template's, and only there are names of special tokens special tokens. That the contents put
//! in their places make the text that the template makes of the conversation itself is checked as well, so a template
//! that looks into contents, or changes them other than by trimming their ends, is refused.

use super::written::{GENERATED, PLACEHOLDER, Skeleton, Written};
use super::{python, tags};
use crate::data::record::{Role, Turn};
use crate::error::{Error, Result};
use crate::input::{one_line, quoted};
use crate::quiet::quietly;
use crate::tokenizer::{CHATML, Tokenizer};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, State};
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// Largest template, in bytes: several times the largest published one.
const MAX_BYTES: usize = 64 << 10;
/// What rendering may cost: one for an instruction and for every 64 bytes that are made. Published templates need some
/// hundreds a message.
const FUEL: u64 = 1 << 20;
/// Bytes of stack for reading and rendering a template of the user's. The library goes as deep as what it reads, a
/// level for every other byte at most, and as the values that it makes, a level for every few of [`FUEL`]. What of the
/// stack is not needed takes no memory.
const STACK: usize = 256 << 20;
/// Different frames before answers of one conversation for which the prompts are written.
const MOST_FRAMES: usize = 64;
/// What a template is called inside of its environment.
const NAME: &str = "chat";
/// The variable that holds the time.
const NOW: &str = "__now";

/// A checked template.
pub struct Template {
    environment: Environment<'static>,
    name: String,
    source: String,
    /// Special tokens by the names that templates know them by.
    named: Vec<(&'static str, String)>,
    /// Whether it says what the assistant generates.
    generates: bool,
}

/// A message as templates see it.
fn message(turn: &Turn, content: &str) -> Value {
    let name = turn.name.as_deref().map(|name| ("name", name));
    Value::from_pairs([("role", turn.role.name()), ("content", content)].into_iter().chain(name))
}

/// Words by which a template may write a message's name.
const NAMES: [&str; 3] = [".name", "'name'", "\"name\""];

impl Template {
    /// ChatML.
    pub fn chatml(tokenizer: &Tokenizer) -> Result<Template> {
        Self::parse("ChatML", CHATML, tokenizer)
    }

    /// The template with the text `source`; `name` is for errors.
    ///
    /// # Errors
    /// If it is no Jinja template.
    pub fn parse(name: &str, source: &str, tokenizer: &Tokenizer) -> Result<Template> {
        let fail = |reason: String| Error::file(name, format!("is no chat template: {reason}"));
        let source = tags::lines(source);
        if source.len() > MAX_BYTES || source.contains(PLACEHOLDER) || source.contains(GENERATED) {
            let reason = format!("it has more than {MAX_BYTES} bytes, or characters that never stand for anything");
            return Err(fail(reason));
        }
        let rewritten = tags::rewrite(&source);
        let mut environment = Environment::new();
        // As transformers sets it.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| Error::file(name, one_line(&e)))?);
        environment.set_fuel(Some(FUEL));
        python::add(&mut environment);
        environment.add_function("raise_exception", python::raise);
        environment.add_function("strftime_now", |state: &State, format: &str| {
            python::strftime(state.lookup(NOW).and_then(|now| now.as_i64()).unwrap_or_default(), format)
        });
        let [begin, end] = GENERATED;
        environment.add_filter(tags::GENERATION, move |text: String| format!("{begin}{text}{end}"));
        let generates = rewritten.contains(tags::GENERATION);
        let read = || environment.add_template_owned(NAME, rewritten).map_err(|e| one_line(&e));
        deeply(read).map_err(fail)?;
        let named = tokenizer.named_tokens();
        Ok(Template { environment, name: name.to_owned(), source, named, generates })
    }

    /// What it is called in errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it is ChatML as it comes with the program.
    pub fn is_chatml(&self) -> bool {
        self.source == CHATML
    }

    /// Whether it says itself, by tags of generation, what the assistant generates.
    pub fn generates(&self) -> bool {
        self.generates
    }

    /// A conversation as text; with `prompt`, up to where the assistant is to go on.
    ///
    /// # Errors
    /// Why it cannot be made, in words that follow "the chat template".
    pub fn write(&self, turns: &[Turn], prompt: bool) -> std::result::Result<Written, String> {
        self.run(|now| self.written(turns, prompt, now))
    }

    /// The same, and for each of the messages `answers` what the prompt that it answers writes after the last message:
    /// the frame that the answer follows. None where there is no such prompt.
    ///
    /// # Errors
    /// As [`Template::write`].
    pub fn write_answers(
        &self,
        turns: &[Turn],
        answers: &[usize],
    ) -> std::result::Result<(Written, Vec<Option<String>>), String> {
        self.run(|now| {
            let written = self.written(turns, false, now)?;
            // Where the frame before an answer is one that was seen, so is that of its prompt.
            let mut seen: HashMap<&str, Option<String>> = HashMap::new();
            let mut last = |&answer: &usize| {
                let prompt = || {
                    let skeleton = self.skeleton(&turns[..answer], true, &|_| true, now).ok();
                    skeleton.and_then(|mut skeleton| skeleton.frames.pop())
                };
                let few = seen.len() < MOST_FRAMES;
                let frame = written.frame(answer).filter(|frame| few || seen.contains_key(frame))?;
                seen.entry(frame).or_insert_with(prompt).clone()
            };
            let frames = answers.iter().map(&mut last).collect();
            Ok((written, frames))
        })
    }

    /// Runs `f` where a template of the user's may go deep, with the time of now, which all of it sees.
    fn run<T: Send>(
        &self,
        f: impl FnOnce(i64) -> std::result::Result<T, String> + Send,
    ) -> std::result::Result<T, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) as i64;
        if self.is_chatml() { f(now) } else { deeply(|| f(now)) }
    }

    fn written(&self, turns: &[Turn], prompt: bool, now: i64) -> std::result::Result<Written, String> {
        // A name is part of a frame, in which names of marks are marks.
        let odd = |name: &&String| !name.chars().all(|c| c.is_alphanumeric() || "_-. ".contains(c));
        let odd = turns.iter().filter_map(|turn| turn.name.as_ref()).find(odd);
        if let Some(name) = odd.filter(|_| NAMES.iter().any(|word| self.source.contains(word))) {
            return Err(format!(
                "writes names of who speaks; {} has more than letters, digits, _, - and .",
                quoted(name)
            ));
        }
        let text = self.render(turns.iter().map(|turn| message(turn, &turn.content)).collect(), prompt, now)?;
        let fit = |skeleton: Skeleton| skeleton.fit(turns, &text);
        let changed = match fit(self.skeleton(turns, prompt, &|_| true, now)?) {
            Ok(written) => return Ok(written),
            Err(changed) => changed,
        };
        // A template may leave out what says nothing.
        let bare = |turn: &Turn| turn.content.is_empty() && turn.role != Role::Assistant;
        if turns.iter().any(bare)
            && let Ok(Ok(written)) = self.skeleton(turns, prompt, &|turn| !bare(turn), now).map(fit)
        {
            return Ok(written);
        }
        let content = turns.get(changed).map_or("", |turn| &turn.content);
        Err(format!("changes what messages say, such as {}", quoted(content)))
    }

    /// The text with placeholders for the contents of those messages that are `placed`.
    fn skeleton(
        &self,
        turns: &[Turn],
        prompt: bool,
        placed: &dyn Fn(&Turn) -> bool,
        now: i64,
    ) -> std::result::Result<Skeleton, String> {
        let [before, after] = PLACEHOLDER;
        let marked = turns.iter().enumerate().map(|(i, turn)| match placed(turn) {
            true => message(turn, &format!("{before}{i}{after}")),
            false => message(turn, &turn.content),
        });
        let text = self.render(marked.collect(), prompt, now)?;
        let placed: Vec<bool> = turns.iter().map(placed).collect();
        Skeleton::read(&text, &placed)
    }

    fn render(&self, messages: Vec<Value>, prompt: bool, now: i64) -> std::result::Result<String, String> {
        let mut values = vec![
            ("messages", Value::from(messages)),
            ("add_generation_prompt", Value::from(prompt)),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            (NOW, Value::from(now)),
        ];
        values.extend(self.named.iter().map(|(name, token)| (*name, Value::from(token.as_str()))));
        let template = self.environment.get_template(NAME).map_err(|e| one_line(&e))?;
        template.render(Value::from_pairs(values)).map_err(|e| match e.kind() {
            ErrorKind::OutOfFuel => "goes on without end, or makes too much text".to_owned(),
            _ => format!("fails: {}", one_line(&e)),
        })
    }
}

/// Runs `f` with [`STACK`]; a panic in it is an error too.
fn deeply<T: Send>(f: impl FnOnce() -> std::result::Result<T, String> + Send) -> std::result::Result<T, String> {
    let short = |e: std::io::Error| format!("cannot be read for lack of memory: {e}");
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || quietly(f));
        thread.map_err(short)?.join().unwrap_or_else(|_| Err("it panicked".to_owned())).and_then(|done| done)
    })
}
