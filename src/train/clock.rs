//! When rows are written: how long after the run began, and at what time of the day.

use super::rows::{Row, Stamped};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Counts the seconds of a run over its starts.
#[derive(Debug)]
pub(super) struct Clock {
    /// Seconds before `since`.
    before: f64,
    since: Instant,
}

impl Default for Clock {
    /// A run that begins now.
    fn default() -> Clock {
        Clock::behind(0.0)
    }
}

impl Clock {
    /// A run that goes on now, behind a row that was written after `elapsed` seconds; 0 if that is not known.
    pub(super) fn behind(elapsed: f64) -> Clock {
        let before = if elapsed.is_finite() && elapsed > 0.0 { elapsed } else { 0.0 };
        Clock { before, since: Instant::now() }
    }

    /// A row with the present time.
    pub(super) fn stamp<'r>(&self, row: &'r Row) -> Stamped<&'r Row> {
        Stamped { row, elapsed: self.before + self.since.elapsed().as_secs_f64(), wall_time: now() }
    }
}

/// Seconds since 1970.
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::now;
    use crate::config::Config;
    use crate::train::journal::{Journal, METRICS, read_stamped};
    use crate::train::place::Place;
    use crate::train::rows::{Row, Stamped, TrainRow, ValRow};

    #[test]
    fn times_go_on_behind_the_rows_that_are_kept_and_begin_anew_with_the_run() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("run");
        let mut journal = Journal::create(Place::of(&folder, false).unwrap(), &Config::default()).unwrap();
        let train = |step| Row::Train(TrainRow { step, ..TrainRow::default() });
        let line = |step, elapsed| {
            serde_json::to_string(&Stamped { row: train(step), elapsed, wall_time: 1.0 }).unwrap() + "\n"
        };
        std::fs::write(folder.join(METRICS), [line(1, 7000.0), line(2, 9000.0)].concat()).unwrap();
        let elapsed = || read_stamped(&folder).unwrap().iter().map(|line| line.elapsed).collect::<Vec<_>>();
        let near = |from: f64, time: f64| (from..from + 500.0).contains(&time);
        let before = now();
        journal.trim(1).unwrap();
        journal.record(&train(2)).unwrap();
        assert!(matches!(elapsed()[..], [7000.0, next] if near(7000.0, next)), "{:?}", elapsed());
        journal.restart().unwrap();
        [Row::Val(ValRow::default()), train(1)].iter().for_each(|row| journal.record(row).unwrap());
        assert!(matches!(elapsed()[..], [first, next] if near(0.0, first) && near(first, next)), "{:?}", elapsed());
        assert!(read_stamped(&folder).unwrap().iter().all(|line| near(before, line.wall_time)));
    }
}
