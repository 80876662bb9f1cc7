//! Questions whose answers a program can judge: those of the user's files, on the embedded world, or sums and
//! differences.

use super::arithmetic::{Arithmetic, MARK};
use super::loader::{Counts, Loader, split};
use super::record::{self, Purpose, Record, Role, Turn};
use super::shuffle::permuted;
use super::world::quiz::Check;
use super::world::{Split, World};
use crate::chat::conversation::{check_order, conversation, of};
use crate::config::data::DataConfig;
use crate::config::reward::{RewardKind, WORLD_ALONE};
use crate::config::task::{TaskConfig, TaskKind};
use crate::error::{Error, Result};

/// A question that a model is to answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The conversation up to where the assistant answers.
    pub prompt: Vec<Turn>,
    /// An answer that is right, where one is known.
    pub reference: Option<String>,
    /// What tells whether another is, if it is one of the world's.
    pub check: Option<Check>,
}

impl Question {
    /// The question of a record.
    ///
    /// | record | question | reference |
    /// |---|---|---|
    /// | prompt | itself | its `ground_truth`, `answer` or `solution` |
    /// | question | itself | what follows the last `####` of the answer; without such a mark the answer |
    /// | prompt and completion | the prompt | the completion; none if it has a `label` |
    /// | instruction | the instruction and its input | the output |
    /// | messages | all but what the assistant says last | that |
    ///
    /// `ground_truth`, `answer` or `solution` beside prompt and completion, instruction or messages is the reference.
    ///
    /// # Errors
    /// If nothing is asked, or roles are in an order that no conversation has; in words that follow the number of its
    /// line.
    pub fn new(record: Record) -> std::result::Result<Question, String> {
        let (mut prompt, mut reference) = match record {
            Record::Prompt { prompt, reference } => (of(prompt, Role::User), reference),
            Record::Question { question, answer } => {
                let last = answer.rsplit_once(MARK).map_or(&*answer, |(_, last)| last).trim().to_owned();
                (vec![Turn::new(Role::User, question)], Some(last))
            }
            Record::Labelled { prompt, .. } => (of(prompt, Role::User), None),
            Record::Completion { prompt, completion } => {
                ([of(prompt, Role::User), of(completion, Role::Assistant)].concat(), None)
            }
            Record::Messages(turns) => (turns, None),
            instruction @ Record::Instruction { .. } => (conversation(instruction)?.unwrap_or_default(), None),
            Record::Preference { .. } => return Err("has two answers, not a question and what is right".to_owned()),
            Record::Text(_) => return Err("has a text, not a question".to_owned()),
        };
        check_order(&prompt)?;
        if reference.is_none() {
            let last = prompt.pop_if(|turn| turn.role == Role::Assistant);
            if last.as_ref().is_some_and(|turn| !turn.learnt) {
                return Err("has a last answer that is not to be learnt, and it would be taken to be right".to_owned());
            }
            reference = last.map(|turn| turn.content);
        }
        match prompt.last() {
            Some(last) if matches!(last.role, Role::User | Role::Tool) && !last.content.trim().is_empty() => {
                Ok(Question { prompt, reference: reference.filter(|right| !right.trim().is_empty()), check: None })
            }
            Some(last) if last.content.trim().is_empty() => Err("asks nothing: the last message is empty".to_owned()),
            _ => Err("asks nothing: no message of the user comes last".to_owned()),
        }
    }
}

/// The training and the held-out questions.
pub struct Questions {
    source: Source,
}

enum Source {
    World(World),
    Arithmetic(Arithmetic, u32),
    Files { train: Vec<Question>, val: Vec<Question>, counts: Counts, seed: Option<u64> },
}

impl Questions {
    /// Opens the questions in the files of `data`, which stay in memory, or, where it names none, those of `task`,
    /// which have no end. Of the files' lines `max_bad_lines` may be unusable. `functions` are to judge the answers.
    ///
    /// `seed` decides the order of files; those of `task` are of `data.world_seed`, so that runs of other seeds are
    /// held to the same questions.
    ///
    /// # Errors
    /// If files cannot be read, more lines than allowed are unusable, or no question is left; lines without a reference
    /// are unusable if a function needs one. If a function cannot judge such questions.
    pub fn open(
        task: &TaskConfig,
        data: &DataConfig,
        functions: &[RewardKind],
        max_bad_lines: usize,
        seed: u64,
    ) -> Result<Questions> {
        super::check_fraction(data.val_fraction)?;
        let source = match task.kind {
            _ if !data.path.is_empty() => Self::read(data, functions, max_bad_lines, seed)?,
            TaskKind::World => Source::World(World::new(data.world_seed)),
            TaskKind::Arithmetic => Source::Arithmetic(Arithmetic::new(task, data.world_seed), task.digits),
        };
        if !matches!(source, Source::World(_)) && functions.contains(&RewardKind::World) {
            return Err(Error::config("reward.functions", WORLD_ALONE));
        }
        Ok(Questions { source })
    }

    fn read(data: &DataConfig, functions: &[RewardKind], max_bad_lines: usize, seed: u64) -> Result<Source> {
        let compares = functions.iter().find(|function| function.compares());
        let make = |line: &[u8]| {
            let question = Question::new(record::read_for(line, Purpose::Question)?.1)?;
            match compares.filter(|_| question.reference.is_none()) {
                Some(function) => Err(format!(
                    "has no right answer for the reward {} to compare with; add one under \"answer\"",
                    function.name()
                )),
                None => Ok(Some((question, false))),
            }
        };
        let mut loader = Loader::new("questions", &make);
        let train = loader.load(&data.path, &data.val_path)?;
        let val = loader.load(&data.val_path, &[])?;
        let counts = loader.finish(max_bad_lines)?;
        let (train, val) = split(train, val, data.val_fraction);
        if train.is_empty() {
            return Err(Error::config("data.path", "holds no question to train on; give JSON lines with \"prompt\""));
        }
        Ok(Source::Files { train, val, counts, seed: data.shuffle.then_some(seed) })
    }

    /// The same with every question of its files held out, and none to train on.
    pub fn held_out(mut self) -> Self {
        if let Source::Files { train, val, .. } = &mut self.source {
            val.splice(..0, std::mem::take(train));
        }
        self
    }

    /// Question number `n` of a split, always the same: of files the training questions of an epoch in a new order, and
    /// the held-out ones as they stand. `n` is below 2⁶³.
    ///
    /// # Panics
    /// If the files have not so many held-out questions.
    pub fn question(&self, n: u64, split: Split) -> Question {
        let asked = |content| vec![Turn::new(Role::User, content)];
        match &self.source {
            Source::World(world) => {
                let quiz = world.quiz(n, split);
                let reference = Some(quiz.reference().to_owned());
                Question { prompt: asked(quiz.question), reference, check: Some(quiz.check) }
            }
            Source::Arithmetic(arithmetic, _) => {
                let (question, answer) = arithmetic.question(n, split);
                Question { prompt: asked(question), reference: Some(answer), check: None }
            }
            Source::Files { val, .. } if split == Split::Val => val[n as usize].clone(),
            Source::Files { train, seed, .. } => {
                let questions = train.len() as u64;
                let (epoch, place) = (n / questions, n % questions);
                train[seed.map_or(place, |seed| permuted(place, questions, seed, epoch)) as usize].clone()
            }
        }
    }

    /// Questions of an epoch, and held-out ones; none where they have no end.
    pub fn lengths(&self) -> Option<(u64, u64)> {
        match &self.source {
            Source::World(_) | Source::Arithmetic(..) => None,
            Source::Files { train, val, .. } => Some((train.len() as u64, val.len() as u64)),
        }
    }

    /// One line on what they are.
    pub fn describe(&self) -> String {
        let (train, val, Counts { files, made, bad, .. }) = match &self.source {
            Source::World(_) => return "embedded world: questions without end".to_owned(),
            Source::Arithmetic(_, digits) => {
                return format!("sums and differences of numbers of up to {digits} digits, without end");
            }
            Source::Files { train, val, counts, .. } => (train, val, counts),
        };
        let known = train.iter().chain(val).filter(|question| question.reference.is_some()).count();
        format!(
            "{files} file{}, {made} questions ({known} with a right answer, {bad} bad lines left out): {} training \
             questions, {} held out",
            if *files == 1 { "" } else { "s" },
            train.len(),
            val.len(),
        )
    }
}
