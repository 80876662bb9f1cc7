//! `hadal chat`

use super::sample::SamplingArgs;
use super::serve::{ContextArgs, generator};
use super::typed::Typed;
use super::{DeviceArgs, existing, model_config, model_tokenizer, positive};
use crate::chat::folder::own_template;
use crate::chat::{Encoder, Template};
use crate::config::hf::end_tokens;
use crate::config::sft::SftMask;
use crate::config::train::Precision;
use crate::data::record::{Role, Turn};
use crate::error::{Error, Result};
use crate::generate::{CHUNK, Event, Finish, Generator, GeneratorOptions, Request, Sampling, Text, ends};
use crate::input::BYTE_ORDER_MARK;
use crate::stop::Interrupt;
use crate::terminal::{note, print, print_part, printable};
use crate::tokenizer::Tokenizer;
use crate::train::checkpoint::with_model;
use clap::Args;
use rustyline::Editor;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use serde_json::json;
use std::fs::OpenOptions;
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Bytes of a line that is not typed.
const LONGEST_LINE: u64 = 1 << 20;

const HELP: &str = "\
/reset           forgets the conversation
/save FILE       appends the conversation to FILE as a line of JSON, which hadal sft takes as data
/system TEXT     sets what the model is told before the conversation; without TEXT, nothing
/temperature X   divides the logits; 0 takes the most probable token
/quit            leaves, as Ctrl-D does, and Ctrl-C twice on an empty line
Ctrl-C stops an answer, or clears the line. A message that begins with a slash is written with two.";

#[derive(Args, Debug)]
pub(super) struct ChatArgs {
    /// A run folder, a checkpoint or a Hugging Face folder
    model: PathBuf,
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// New tokens of an answer at most; by default as many as there is room for
    #[arg(long, visible_aliases = ["max-tokens", "max-new-tokens"], value_parser = positive())]
    tokens: Option<usize>,
    #[command(flatten)]
    context: ContextArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// What weights, activations and the cache are stored as
    #[arg(long, value_enum, default_value = "auto")]
    precision: Precision,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Whether the program goes on after a line.
#[derive(PartialEq, Eq)]
enum Next {
    Line,
    Leave,
}

/// A conversation and the model that it is held with.
struct Talk {
    generator: Generator,
    encoder: Encoder,
    tokenizer: Tokenizer,
    /// Tokens that end an answer.
    ends: Vec<u32>,
    system: Option<String>,
    turns: Vec<Turn>,
    most: usize,
    sampling: Sampling,
    /// Answers that were given: each draws random numbers of its own.
    answers: u64,
    /// Ctrl-C, where somebody types.
    interrupt: Option<Interrupt>,
}

pub(super) fn run(args: ChatArgs) -> Result<()> {
    let sampling = args.sampling.settings()?;
    let (tokenizer, encoder, ends, capacity, generator) = with_model(&existing(&args.model)?, |folder| {
        let config = model_config(folder)?;
        let tokenizer = model_tokenizer(folder, &config)?;
        let encoder =
            encoder(folder, &tokenizer).map_err(|reason| Error::file(folder, format!("cannot chat: {reason}")))?;
        let capacity = args.context.tokens(&config)?;
        let options = GeneratorOptions { slots: 1, capacity, chunk: CHUNK, known: tokenizer.vocab_size() };
        let generator = generator(folder, &config, options, (&args.device, args.precision))?;
        let ends = ends(folder, &tokenizer, Some(&encoder))?;
        warn_of_plain_text(folder, &encoder)?;
        Ok((tokenizer, encoder, ends, capacity, generator))
    })?;
    let typed = std::io::stdin().is_terminal();
    let talk = Talk {
        generator,
        encoder,
        tokenizer,
        ends,
        system: args.system,
        turns: Vec::new(),
        most: args.tokens.unwrap_or(capacity),
        sampling,
        answers: 0,
        interrupt: typed.then(Interrupt::listen).transpose()?,
    };
    if typed { type_lines(talk) } else { read_lines(talk) }
}

/// How the model in `folder` is told conversations: by its own template, else by ChatML; or why it cannot chat.
pub(super) fn encoder(folder: &Path, tokenizer: &Tokenizer) -> std::result::Result<Encoder, String> {
    let made = match own_template(folder) {
        Ok(Some(source)) => source.template(tokenizer),
        Ok(None) if tokenizer.chat_template().is_some() => Template::chatml(tokenizer),
        Ok(None) => {
            let reason = "its vocabulary has no tokens for turns; hadal sft gives it some and teaches it to chat";
            return Err(reason.to_owned());
        }
        Err(error) => Err(error),
    };
    made.and_then(|template| Encoder::new(template, tokenizer.clone(), SftMask::default())).map_err(|e| match e {
        Error::Config { reason, .. } => reason,
        other => other.to_string(),
    })
}

/// Says so where the model's files name other ends than that of an answer: it then has seen no conversation.
fn warn_of_plain_text(folder: &Path, encoder: &Encoder) -> Result<()> {
    let named = end_tokens(folder)?;
    if named.is_empty() || named.contains(&encoder.end()) {
        return Ok(());
    }
    let end = encoder.tokenizer().special_name(encoder.end()).map(printable).unwrap_or_default();
    note(format_args!(
        "warning: the model was taught plain text, it seems, and no conversations: its config.json does not name {end} \
         as an end; hadal sft teaches it to chat"
    ));
    Ok(())
}

/// Lines of somebody who types: what is wrong with one is said, and the next may come.
fn type_lines(mut talk: Talk) -> Result<()> {
    let fail = |e: ReadlineError| Error::io("the terminal", std::io::Error::other(e.to_string()));
    let mut editor = Editor::<Typed, DefaultHistory>::new().map_err(fail)?;
    editor.set_helper(Some(Typed::default()));
    note("/help lists commands");
    let mut pressed = false;
    loop {
        match editor.readline("> ") {
            Ok(line) => {
                pressed = false;
                let _ = editor.add_history_entry(&line);
                match talk.line(&line) {
                    Ok(Next::Line) => {}
                    Ok(Next::Leave) => return Ok(()),
                    Err(Error::Device(reason)) => return Err(Error::Device(reason)),
                    Err(error) => note(error),
                }
            }
            Err(ReadlineError::Interrupted) if editor.helper().is_some_and(|typed| typed.any()) => pressed = false,
            Err(ReadlineError::Interrupted) if !pressed => {
                pressed = true;
                note("once more, or Ctrl-D, to leave");
            }
            Err(ReadlineError::Interrupted | ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(fail(error)),
        }
    }
}

/// Lines of a file or another program: what is wrong with one ends it all.
fn read_lines(mut talk: Talk) -> Result<()> {
    let mut input = std::io::stdin().lock();
    let mut first = true;
    loop {
        let mut bytes = Vec::new();
        let read = input.by_ref().take(LONGEST_LINE + 1).read_until(b'\n', &mut bytes);
        read.map_err(|e| Error::io("standard input", e))?;
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.len() as u64 > LONGEST_LINE {
            return Err(Error::file("standard input", format!("has a line of more than {LONGEST_LINE} bytes")));
        }
        let line =
            String::from_utf8(bytes).map_err(|_| Error::file("standard input", "has a line that is not UTF-8"))?;
        let line = line.strip_prefix(BYTE_ORDER_MARK).filter(|_| std::mem::take(&mut first)).unwrap_or(&line);
        first = false;
        if talk.line(line.trim_end_matches(['\n', '\r']))? == Next::Leave {
            return Ok(());
        }
    }
}

impl Talk {
    /// Does what a line asks for: a command after a slash, or a message.
    fn line(&mut self, line: &str) -> Result<Next> {
        let Some(command) = line.strip_prefix('/').filter(|rest| !rest.starts_with('/')) else {
            let message = line.strip_prefix('/').unwrap_or(line);
            if !message.trim().is_empty() {
                self.say(message)?;
            }
            return Ok(Next::Line);
        };
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim();
        match name {
            "quit" | "exit" => return Ok(Next::Leave),
            "help" => note(HELP),
            "reset" => {
                self.turns.clear();
                note("the conversation is forgotten");
            }
            "save" => self.save(rest)?,
            "system" => self.instruct(rest),
            "temperature" => self.warm(rest)?,
            _ => return Err(Error::Usage(format!("there is no command /{name}; /help lists them"))),
        }
        Ok(Next::Line)
    }

    /// What the model is told: perhaps a system message, then the conversation.
    fn messages(&self) -> Vec<Turn> {
        let system = self.system.iter().map(|text| Turn::new(Role::System, text.clone()));
        system.chain(self.turns.iter().cloned()).collect()
    }

    fn instruct(&mut self, text: &str) {
        self.system = Some(text.to_owned()).filter(|text| !text.is_empty());
        match &self.system {
            Some(text) => note(format_args!("the model is told from now on: {}", printable(text))),
            None => note("the model is told nothing before the conversation"),
        }
    }

    fn save(&self, file: &str) -> Result<()> {
        if file.is_empty() {
            return Err(Error::Usage("/save needs the name of a file".to_owned()));
        }
        let (path, messages) = (Path::new(file), self.messages());
        super::output(path)?;
        if self.turns.is_empty() {
            return Err(Error::Usage("there is no conversation to save yet".to_owned()));
        }
        let object = |turn: &Turn| json!({"role": turn.role.name(), "content": turn.content});
        let line = json!({"messages": messages.iter().map(object).collect::<Vec<_>>()});
        let opened = OpenOptions::new().create(true).append(true).open(path);
        opened.and_then(|mut file| writeln!(file, "{line}")).map_err(|e| Error::write(path, e))?;
        note(format_args!("{} messages are in {}", messages.len(), printable(file)));
        Ok(())
    }

    fn warm(&mut self, text: &str) -> Result<()> {
        let wrong = || Error::Usage(format!("/temperature needs a number, not {text:?}"));
        let sampling = Sampling { temperature: text.parse().map_err(|_| wrong())?, ..self.sampling.clone() };
        sampling.validate(|name| format!("/{name}"))?;
        self.sampling = sampling;
        note(format_args!("the temperature is {}", self.sampling.temperature));
        Ok(())
    }

    /// Says something to the model and prints its answer. What does not fit was not said.
    fn say(&mut self, message: &str) -> Result<()> {
        self.turns.push(Turn::new(Role::User, message));
        let answer = self.prompt().and_then(|prompt| self.answer(prompt));
        match answer {
            Ok(content) => self.turns.push(Turn::new(Role::Assistant, content)),
            Err(error) => {
                self.turns.pop();
                return Err(error);
            }
        }
        Ok(())
    }

    fn prompt(&self) -> Result<Vec<u32>> {
        let refuse = |reason| Error::Usage(format!("the chat template {reason}"));
        let prompt = self.encoder.prompt(&self.messages()).map_err(refuse)?;
        let (tokens, capacity) = (prompt.len(), self.generator.capacity());
        if tokens < capacity {
            return Ok(prompt);
        }
        let room = format!("the conversation would have {tokens} tokens, and there is room for {capacity}");
        Err(Error::Usage(format!("{room} with the answer; /reset begins a new one")))
    }

    /// Prints the answer to a prompt while it is drawn.
    fn answer(&mut self, prompt: Vec<u32>) -> Result<String> {
        let taken = prompt.len();
        let sampling = self.sampling.of_sequence(&prompt, self.answers);
        self.answers += 1;
        let mut answer = Printed::new(Text::new(&self.tokenizer, &prompt, &[]).after(self.encoder.lead()));
        let stop = self.ends.clone();
        let begin = Instant::now();
        let number = self.generator.submit(Request { prompt, max_tokens: self.most, stop, sampling })?;
        if let Some(interrupt) = &self.interrupt {
            interrupt.take(); // pressed while nothing was under way
        }
        while !self.generator.is_idle() {
            for event in self.generator.advance()? {
                answer.take(event)?;
            }
            if self.interrupt.as_ref().is_some_and(Interrupt::take) {
                self.generator.cancel(number);
            }
        }
        answer.end()?;
        let Printed { said, tokens, finish, .. } = answer;
        note(format_args!("[{tokens} tokens, {:.1} tokens/s]", tokens as f64 / begin.elapsed().as_secs_f64()));
        let capacity = self.generator.capacity();
        if finish == Some(Finish::Length) && taken + tokens >= capacity {
            note(format_args!("all {capacity} tokens of the context are full; /reset begins a new conversation"));
        }
        Ok(said)
    }
}

/// An answer that is printed while it comes.
struct Printed {
    text: Text,
    said: String,
    tokens: usize,
    finish: Option<Finish>,
    /// A terminal must not be commanded by what a model says.
    escaped: bool,
}

impl Printed {
    fn new(text: Text) -> Printed {
        let escaped = std::io::stdout().is_terminal();
        Printed { text, said: String::new(), tokens: 0, finish: None, escaped }
    }

    fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Token { token, .. } => {
                self.tokens += 1;
                let part = self.text.push(token);
                self.show(&part)
            }
            Event::Done { finish, .. } => {
                self.finish = Some(finish);
                finish.name().map(drop)
            }
        }
    }

    fn show(&mut self, part: &str) -> Result<()> {
        self.said.push_str(part);
        if self.escaped { print_part(printable(part)) } else { print_part(part) }
    }

    fn end(&mut self) -> Result<()> {
        let rest = self.text.finish();
        self.show(&rest)?;
        print("")
    }
}
