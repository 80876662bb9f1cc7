//! What is wrong with the data, all of it at once.

use crate::error::{Error, Result};

/// Problems that are told in full; of the others only the number is.
const SHOWN: usize = 8;

/// The problems found so far.
#[derive(Default)]
pub struct Problems {
    shown: Vec<Error>,
    count: usize,
}

impl Problems {
    /// Notes bad input. Other errors, such as of the disk, come back: what follows them would say nothing.
    pub fn add(&mut self, error: Error) -> Result<()> {
        if error.exit_code() != 2 {
            return Err(error);
        }
        self.count += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(error);
        }
        Ok(())
    }

    /// Problems so far.
    pub fn count(&self) -> usize {
        self.count
    }

    /// All problems as one error, if there are any.
    pub fn finish(self) -> Result<()> {
        self.finish_advising("")
    }

    /// The same with what else there is to do about them, in words that follow.
    pub fn finish_advising(mut self, advice: &str) -> Result<()> {
        if self.count <= 1 {
            return match self.shown.pop() {
                Some(one) if !advice.is_empty() => Err(Error::Usage(format!("{one}{advice}"))),
                one => one.map_or(Ok(()), Err),
            };
        }
        let mut list: Vec<String> = self.shown.iter().map(Error::to_string).collect();
        if self.count > SHOWN {
            list.push(format!("and {} more", self.count - SHOWN));
        }
        Err(Error::Several { summary: format!("{} problems with the data{advice}", self.count), list })
    }
}
