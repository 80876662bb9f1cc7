//! How a conversation is written: ChatML, or a Jinja template of the user's, which is read as hostile.
//!
//! A template is never run on its own over a conversation: its text would not tell what is a mark and what somebody
//! wrote. It is rendered with a placeholder for each message's content, and must give each of them back once and in
//! order; what stands between is the template's, and only there are names of special tokens special tokens. That the
//! contents put in their places make the text that the template makes of the conversation itself is checked as well, so
//! a template that looks into contents, or changes them other than by trimming their ends, is refused.

use crate::data::record::Turn;
use crate::error::{Error, Result};
use crate::input::{one_line, quoted, read_text};
use crate::quiet::quietly;
use crate::tokenizer::{CHATML, Tokenizer};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, context};
use std::path::Path;

/// Largest template, in bytes: several times the largest published one.
const MAX_BYTES: u64 = 64 << 10;
/// What rendering may cost: one for an instruction and for every 64 bytes that are made. Published templates need some
/// hundreds a message.
const FUEL: u64 = 1 << 20;
/// Bytes of stack for reading and rendering a template of the user's. The library goes as deep as what it reads, a
/// level for every other byte at most, and as the values that it makes, a level for every few of [`FUEL`]. What of the
/// stack is not needed takes no memory.
const STACK: usize = 256 << 20;
/// Stands before and after the number of a message in place of its content: no text has these characters, which stay
/// unassigned for ever.
const PLACEHOLDER: [char; 2] = ['\u{10fffe}', '\u{10ffff}'];

/// A checked template.
pub struct Template {
    environment: Environment<'static>,
    name: String,
    source: String,
    /// What `bos_token` and `eos_token` stand for: texts begin with the token that ends them.
    end: String,
}

/// A part of a conversation's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment<'t> {
    /// Text of the template, in which names of special tokens are special tokens.
    Frame(String),
    /// What the message of this number says.
    Content(usize, &'t str),
}

/// A message as templates see it.
fn message(turn: &Turn, content: &str) -> Value {
    Value::from_pairs([("role", turn.role.name()), ("content", content)])
}

impl Template {
    /// ChatML.
    pub fn chatml(tokenizer: &Tokenizer) -> Result<Template> {
        Self::parse("ChatML", CHATML, tokenizer)
    }

    /// The template in the file `path`.
    ///
    /// # Errors
    /// If it cannot be read, or is no Jinja template.
    pub fn open(path: &Path, tokenizer: &Tokenizer) -> Result<Template> {
        let source = read_text(path, MAX_BYTES)?;
        Self::parse(&path.to_string_lossy(), &source, tokenizer)
    }

    /// The template with the text `source`; `name` is for errors.
    pub fn parse(name: &str, source: &str, tokenizer: &Tokenizer) -> Result<Template> {
        let mut environment = Environment::new();
        // As transformers sets it.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| Error::file(name, one_line(&e)))?);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        let raise = |message: String| -> std::result::Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        };
        environment.add_function("raise_exception", raise);
        let read = || environment.add_template_owned("chat", source.to_owned()).map_err(|e| one_line(&e));
        deeply(read).map_err(|e| Error::file(name, format!("is no chat template: {e}")))?;
        let end = tokenizer.decode(&[tokenizer.eos()]);
        Ok(Template { environment, name: name.to_owned(), source: source.to_owned(), end })
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

    /// The text of a conversation; with `prompt`, up to where the assistant is to go on.
    ///
    /// # Errors
    /// Why it cannot be made, in words that follow "the chat template".
    pub fn render(&self, turns: &[Turn], prompt: bool) -> std::result::Result<String, String> {
        self.of(turns.iter().map(|turn| message(turn, &turn.content)).collect(), prompt)
    }

    fn of(&self, messages: Vec<Value>, prompt: bool) -> std::result::Result<String, String> {
        let end = &self.end;
        let context = context! { messages, add_generation_prompt => prompt, bos_token => end, eos_token => end };
        let template = self.environment.get_template("chat").map_err(|e| one_line(&e))?;
        let render = || {
            template.render(context).map_err(|e| match e.kind() {
                ErrorKind::OutOfFuel => "goes on without end, or makes too much text".to_owned(),
                _ => format!("fails: {}", one_line(&e)),
            })
        };
        if self.is_chatml() { render() } else { deeply(render) }
    }

    /// The parts of that text.
    ///
    /// # Errors
    /// As [`Template::render`], or if the text does not tell what belongs to which message.
    pub fn segments<'t>(&self, turns: &'t [Turn], prompt: bool) -> std::result::Result<Vec<Segment<'t>>, String> {
        let [before, after] = PLACEHOLDER;
        let marks: Vec<String> = (0..turns.len()).map(|i| format!("{before}{i}{after}")).collect();
        let messages = turns.iter().zip(&marks).map(|(turn, mark)| message(turn, mark));
        let skeleton = self.of(messages.collect(), prompt)?;
        let text = self.render(turns, prompt)?;
        let mut frames = Vec::new();
        let mut rest = skeleton.as_str();
        for (i, mark) in marks.iter().enumerate() {
            let Some((frame, after)) = rest.split_once(mark.as_str()) else {
                return Err(format!("does not give message {} back once and in its place", i + 1));
            };
            frames.push(frame);
            rest = after;
        }
        if frames.iter().chain([&rest]).any(|frame| frame.contains(PLACEHOLDER)) {
            return Err("gives a message back more than once, or in another place".to_owned());
        }
        for trim in [false, true] {
            let content = |turn: &'t Turn| if trim { turn.content.trim() } else { turn.content.as_str() };
            let mut segments = Vec::new();
            for (i, (frame, turn)) in frames.iter().zip(turns).enumerate() {
                segments.push(Segment::Frame((*frame).to_owned()));
                segments.push(Segment::Content(i, content(turn)));
            }
            segments.push(Segment::Frame(rest.to_owned()));
            if written(&segments) == text {
                return Ok(segments);
            }
        }
        Err(format!("changes what messages say, such as {}", quoted(turns.first().map_or("", |t| &t.content))))
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

/// The text of segments.
fn written(segments: &[Segment<'_>]) -> String {
    let text = |segment: &Segment<'_>| match segment {
        Segment::Frame(text) => text.clone(),
        Segment::Content(_, text) => (*text).to_owned(),
    };
    segments.iter().map(text).collect()
}
