//! Questions whose answers a program can check: on the embedded world, or sums and differences.

use super::arithmetic::Arithmetic;
use super::record::{Role, Turn};
use super::world::quiz::Check;
use super::world::{Split, World};
use crate::config::task::{TaskConfig, TaskKind};

/// A question that a model is to answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The conversation up to where the assistant answers.
    pub prompt: Vec<Turn>,
    /// An answer that is right.
    pub reference: String,
    /// What tells whether another is, if it is one of the world's.
    pub check: Option<Check>,
}

/// Questions without end; each is a pure function of its number, so nothing of them is kept.
#[derive(Clone, Copy, Debug)]
pub enum Task {
    /// On the facts of the embedded world.
    World(World),
    /// Sums and differences.
    Arithmetic(Arithmetic),
}

impl Task {
    /// The questions of `seed`, as `config` wants them.
    pub fn new(config: &TaskConfig, seed: u64) -> Task {
        match config.kind {
            TaskKind::World => Task::World(World::new(seed)),
            TaskKind::Arithmetic => Task::Arithmetic(Arithmetic::new(config, seed)),
        }
    }

    /// Question number `n` of a split; `n` is below 2⁶³.
    pub fn question(&self, n: u64, split: Split) -> Question {
        let (question, reference, check) = match self {
            Task::World(world) => {
                let quiz = world.quiz(n, split);
                let reference = quiz.reference().to_owned();
                (quiz.question, reference, Some(quiz.check))
            }
            Task::Arithmetic(arithmetic) => {
                let (question, answer) = arithmetic.question(n, split);
                (question, answer, None)
            }
        };
        Question { prompt: vec![Turn { role: Role::User, content: question }], reference, check }
    }
}
