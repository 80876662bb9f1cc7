//! The command line as a whole: its help by groups, each command's own words, and what is said about words that it does
//! not know.

use super::Cli;
use super::complete::{configurations, run_folders, settings};
use crate::config::Kind;
use crate::config::aliases::{self, Meaning};
use crate::config::layers::keys;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory, FromArgMatches};
use clap_complete::engine::ArgValueCompleter;
use std::num::{ParseFloatError, ParseIntError};

/// The commands as `hadal --help` lists them.
const GROUPS: [(&str, &[&str]); 4] = [
    ("Train", &["train", "sft", "reward", "dpo", "grpo", "ppo", "pipeline", "study"]),
    ("Use a model", &["sample", "chat", "serve", "export", "import"]),
    ("Look before and after", &["plan", "data", "eval", "plot", "info"]),
    ("Develop and set up", &["check", "bench", "kernels", "dump", "completions", "man"]),
];

/// The variable by which a shell's script asks for completions.
pub(super) const COMPLETE: &str = "HADAL_COMPLETE";

/// The program's arguments with everything that is said about them.
pub(super) fn command() -> Command {
    let command = Cli::command().mut_subcommands(|command| command.mut_args(completed));
    let command = [Kind::Sft, Kind::Reward, Kind::Dpo, Kind::Grpo, Kind::Ppo]
        .into_iter()
        .fold(command, |command, kind| command.mut_subcommand(kind.command(), |stage| in_words_of(kind, stage)));
    let list = list(&command);
    command.help_template(format!("{{about}}\n\n{{usage-heading}} {{usage}}\n\n{list}Options:\n{{options}}"))
}

/// What a shell offers for an argument.
fn completed(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "config" => arg.add(ArgValueCompleter::new(configurations)),
        "set" => arg.add(ArgValueCompleter::new(settings)),
        "model" | "resume" | "runs" => arg.add(ArgValueCompleter::new(run_folders)),
        _ => arg,
    }
}

/// The commands by groups.
fn list(command: &Command) -> String {
    let about = |name: &str| command.find_subcommand(name).and_then(Command::get_about).map(ToString::to_string);
    let mut text = String::new();
    for (group, names) in GROUPS {
        text += &format!("{group}:\n");
        for name in names {
            text += &format!("  {name:<13}{}\n", about(name).unwrap_or_default());
        }
        text.push('\n');
    }
    text
}

/// A stage after pretraining, which learns from other data than that does, and begins with a model.
fn in_words_of(kind: Kind, stage: Command) -> Command {
    let name = kind.command();
    let lines = match kind {
        Kind::Pretrain => "text",
        Kind::Sft => "conversations or of prompts with completions; the embedded world's chats by default",
        Kind::Reward | Kind::Dpo => {
            "pairs of answers, chosen and rejected; the embedded world's preferences by default"
        }
        Kind::Grpo | Kind::Ppo => "questions; the embedded world's by default",
    };
    let help = |arg: Arg, text: String| arg.help(text.clone()).long_help(text);
    stage
        .override_usage(format!(
            "hadal {name} --model <DIR> [OPTIONS] [CONFIG]\n       hadal {name} --resume <RUN> [OPTIONS] [CONFIG]"
        ))
        .mut_arg("config", |arg| help(arg, format!("A preset or a TOML file; the preset {name} by default")))
        .mut_arg("data", |arg| help(arg, format!("Files or folders of JSON lines of {lines}")))
        .mut_arg("tokenizer", |arg| {
            help(arg, "byte, gpt2, cl100k, world, or a tokenizer.json; the model's own by default".to_owned())
        })
        .mut_arg("model", |arg| {
            let text = "Needed for a new run: a run folder, a checkpoint or a Hugging Face folder, whose weights, \
                        network and tokenizer it begins with";
            help(arg, text.to_owned())
        })
        .mut_arg("out", |arg| help(arg, format!("Run folder; runs/{name}-N by default")))
}

/// Reads the arguments of the process, answers those that a shell asks completions with, and ends it where they cannot
/// be understood.
pub(super) fn parse() -> Cli {
    clap_complete::CompleteEnv::with_factory(command).var(COMPLETE).complete();
    let found = command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    found.unwrap_or_else(|error| {
        let of = std::env::args_os().nth(1).and_then(|argument| argument.into_string().ok());
        explained(error, of.as_deref()).exit()
    })
}

/// `error` with a reason and a tip in the words of this program, where the parser has others.
fn explained(mut error: clap::Error, of: Option<&str>) -> clap::Error {
    let text = |error: &clap::Error, kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let (arg, value) = (text(&error, ContextKind::InvalidArg), text(&error, ContextKind::InvalidValue));
    let tip = match error.kind() {
        ErrorKind::UnknownArgument => unknown(&arg, of),
        ErrorKind::InvalidValue if arg.starts_with("--backend") && is_api(&value) => {
            Some("gpu takes any card, through Vulkan, Metal or DX12".to_owned())
        }
        ErrorKind::ValueValidation => match number(&error) {
            Some(wanted) => {
                let message = format!("invalid value '{value}' for '{arg}': {wanted}");
                return clap::Error::raw(ErrorKind::ValueValidation, message).format(&mut command());
            }
            None => return error,
        },
        _ => return error,
    };
    let tips = match (tip, error.remove(ContextKind::Suggested)) {
        (Some(tip), _) => {
            error.remove(ContextKind::SuggestedArg);
            error.remove(ContextKind::SuggestedValue);
            vec![tip.into()]
        }
        // That an option could be meant as a value is no help with options that do not exist.
        (None, Some(ContextValue::StyledStrs(tips))) => {
            tips.into_iter().filter(|tip| !tip.to_string().contains("as a value, use")).collect()
        }
        _ => Vec::new(),
    };
    if !tips.is_empty() {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    error
}

/// What should have stood where a number could not be read.
fn number(error: &clap::Error) -> Option<&'static str> {
    let source = std::error::Error::source(error)?;
    if source.is::<ParseIntError>() {
        return Some("expected a whole number of at least 0");
    }
    source.is::<ParseFloatError>().then_some("expected a number")
}

/// Whether the word names a way to reach a graphics card.
fn is_api(word: &str) -> bool {
    ["cuda", "vulkan", "metal", "mps", "dx12", "rocm", "hip", "xpu", "webgpu", "wgpu", "opengl", "auto-gpu"]
        .contains(&word.to_lowercase().as_str())
}

/// A tip for an option that the command `of` does not have.
fn unknown(arg: &str, of: Option<&str>) -> Option<String> {
    let word = arg.trim_start_matches('-').split('=').next().unwrap_or_default().replace('-', "_");
    let trains = of.is_some_and(|of| GROUPS[0].1.contains(&of) || of == "plan");
    if !trains {
        return None;
    }
    if word == "dry_run" {
        return Some("'hadal plan' shows memory and compute of a run, and begins none".to_owned());
    }
    let set = |key: &str| format!("it is set by '--set {key}=VALUE'");
    match aliases::meaning(&word) {
        Some(Meaning::Key(key)) => Some(set(key)),
        Some(Meaning::Advice(advice)) => Some(advice.to_owned()),
        None => keys().find(|key| key.split_once('.').is_some_and(|(_, name)| name == word)).map(|key| set(&key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_arguments_are_sound_and_every_command_is_in_one_group_in_a_line() {
        command().debug_assert();
        let command = command();
        let all: BTreeSet<&str> = command.get_subcommands().map(Command::get_name).collect();
        let listed: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), all);
        assert_eq!(listed.len(), all.len());
        for line in list(&command).lines() {
            assert!(line.len() <= 80, "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_is_answered_in_words_of_this_program() {
        let said = |words: &[&str]| {
            let error = command().try_get_matches_from([&["hadal"], words].concat()).unwrap_err();
            let error = explained(error, words.first().copied());
            assert_eq!(error.exit_code(), 2, "{words:?}");
            error.to_string()
        };
        for (words, answer) in [
            (&["train", "--max-steps", "5"][..], "--set train.steps=VALUE"),
            (&["train", "--max_grad_norm", "1"], "--set optimizer.clip_norm=VALUE"),
            (&["sft", "--learning-rate=1"], "--set optimizer.learning_rate=VALUE"),
            (&["train", "--device", "cuda"], "--backend and --adapter"),
            (&["train", "--dry-run"], "'hadal plan'"),
            (&["train", "--backend", "cuda"], "gpu takes any card"),
            (&["train", "--steps", "-5"], "'-5' for '--steps <N>': expected a whole number of at least 0"),
            (&["train", "--lr", "fast"], "expected a number"),
        ] {
            let said = said(words);
            assert!(said.contains(answer), "{words:?}: {said}");
            assert!(!said.contains("as a value, use") && !said.contains("'cpu'"), "{words:?}: {said}");
        }
        assert!(!said(&["train", "--frobnicate"]).contains("tip:"));
        assert!(!said(&["info", "--max-steps"]).contains("--set"));
    }
}
