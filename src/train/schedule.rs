//! The learning rate as a pure function of the update, so that a resumed run needs no state for it.

use crate::config::Config;
use crate::config::train::ScheduleKind;

/// Learning rate of update `step`, counted from 0.
///
/// With peak η, minimum η_min, w warm-up updates, decay until update D and a cooldown of c updates:
/// - step < w: η (step + 1) / (w + 1), so that the first update already moves and update w has η;
/// - constant: η from there on;
/// - cosine: η_min + ½ (1 + cos(π (step − w) / (D − w))) (η − η_min);
/// - linear: η_min + (D − step) / (D − w) (η − η_min);
/// - warmup_stable_decay: η, and from b = max(w, D − c) on η_min + (D − step) / (D − b) (η − η_min);
/// - all but constant: η_min after D.
pub fn learning_rate(config: &Config, step: u64) -> f64 {
    let schedule = &config.schedule;
    let (peak, lowest) = (config.optimizer.learning_rate, schedule.min_learning_rate);
    let warmup = schedule.warmup_steps;
    if step < warmup {
        return peak * (step + 1) as f64 / (warmup as f64 + 1.0);
    }
    let end = if schedule.decay_steps == 0 { config.train.steps } else { schedule.decay_steps };
    let cooldown = if schedule.cooldown_steps == 0 { end / 10 } else { schedule.cooldown_steps };
    let begin = match schedule.kind {
        ScheduleKind::Constant => return peak,
        ScheduleKind::WarmupStableDecay => warmup.max(end.saturating_sub(cooldown)),
        ScheduleKind::Cosine | ScheduleKind::Linear => warmup,
    };
    if step <= begin {
        return peak;
    }
    if step > end {
        return lowest;
    }
    let share = (step - begin) as f64 / (end - begin) as f64;
    let left = match schedule.kind {
        ScheduleKind::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * share).cos()),
        _ => 1.0 - share,
    };
    lowest + left * (peak - lowest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    /// Peak 0.01, minimum 0.001, 9 warm-up updates, decay until 109.
    fn config() -> Config {
        let mut config = Config::default();
        config.optimizer.learning_rate = 0.01;
        config.schedule.min_learning_rate = 0.001;
        config.schedule.warmup_steps = 9;
        config.schedule.decay_steps = 109;
        config
    }

    #[test]
    fn the_rate_rises_linearly_and_reaches_the_peak_after_the_warm_up() {
        let config = config();
        assert_relative_eq!(learning_rate(&config, 0), 0.001, max_relative = 1e-15);
        assert_relative_eq!(learning_rate(&config, 4), 0.005, max_relative = 1e-15);
        assert_relative_eq!(learning_rate(&config, 8), 0.009, max_relative = 1e-15);
        assert_eq!(learning_rate(&config, 9), 0.01);
    }

    #[test]
    fn the_cosine_has_its_closed_form_values() {
        let config = config();
        // A third of the way the cosine is 1/2, half way 0, two thirds of the way -1/2; 100 updates do not divide by 3.
        assert_relative_eq!(learning_rate(&config, 59), 0.0055, max_relative = 1e-14);
        let mut thirds = config.clone();
        thirds.schedule.decay_steps = 99;
        assert_relative_eq!(learning_rate(&thirds, 39), 0.00775, max_relative = 1e-14);
        assert_relative_eq!(learning_rate(&thirds, 69), 0.00325, max_relative = 1e-14);
        assert_relative_eq!(learning_rate(&config, 109), 0.001, max_relative = 1e-14);
        assert_eq!(learning_rate(&config, 110), 0.001);
        assert_eq!(learning_rate(&config, u64::MAX), 0.001);
    }

    #[test]
    fn without_a_decay_count_the_minimum_comes_with_the_last_step() {
        let mut config = config();
        config.schedule.decay_steps = 0;
        config.train.steps = 209;
        assert_relative_eq!(learning_rate(&config, 109), 0.0055, max_relative = 1e-14);
        assert_relative_eq!(learning_rate(&config, 209), 0.001, max_relative = 1e-14);
    }

    #[test]
    fn a_constant_schedule_stays_at_the_peak() {
        let mut config = config();
        config.schedule.kind = ScheduleKind::Constant;
        assert_relative_eq!(learning_rate(&config, 0), 0.001, max_relative = 1e-15);
        assert_eq!(learning_rate(&config, 9), 0.01);
        assert_eq!(learning_rate(&config, 1_000_000), 0.01);
    }

    #[test]
    fn a_line_falls_evenly_to_the_minimum() {
        let mut config = config();
        config.schedule.kind = ScheduleKind::Linear;
        for (step, rate) in [(9, 0.01), (34, 0.00775), (59, 0.0055), (84, 0.00325), (109, 0.001), (110, 0.001)] {
            assert_relative_eq!(learning_rate(&config, step), rate, max_relative = 1e-14);
        }
    }

    #[test]
    fn the_stable_schedule_falls_over_its_cooldown_alone() {
        let mut config = config();
        config.schedule.kind = ScheduleKind::WarmupStableDecay;
        config.schedule.cooldown_steps = 40;
        for (step, rate) in
            [(4, 0.005), (9, 0.01), (69, 0.01), (79, 0.00775), (99, 0.00325), (109, 0.001), (500, 0.001)]
        {
            assert_relative_eq!(learning_rate(&config, step), rate, max_relative = 1e-14);
        }
        config.schedule.decay_steps = 200;
        config.schedule.cooldown_steps = 0; // a tenth: 20
        for (step, rate) in [(180, 0.01), (190, 0.0055), (200, 0.001)] {
            assert_relative_eq!(learning_rate(&config, step), rate, max_relative = 1e-14);
        }
        config.schedule.cooldown_steps = 1000; // no longer than what the warm-up leaves
        assert_eq!(learning_rate(&config, 9), 0.01);
        assert!(learning_rate(&config, 10) < 0.01);
    }

    #[test]
    fn counts_of_zero_and_a_decay_inside_the_warm_up_give_finite_rates() {
        let mut config = config();
        config.schedule.warmup_steps = 0;
        assert_eq!(learning_rate(&config, 0), 0.01);
        config.schedule.warmup_steps = 200;
        for step in [0, 109, 199, 200, 201, 1000] {
            let rate = learning_rate(&config, step);
            assert!(rate > 0.0 && rate <= 0.01, "{step}: {rate}");
        }
        assert_eq!(learning_rate(&config, 201), 0.001);
        config.schedule.warmup_steps = 109;
        assert_eq!(learning_rate(&config, 109), 0.01);
    }
}
