//! The learning rate as a pure function of the update, so that a resumed run needs no state for it.

use crate::config::Config;
use crate::config::schedule::{ScheduleKind, Turns, Warmup};

/// Learning rate of update `step`, counted from 0.
///
/// With peak η, minimum η_min, w warm-up updates, decay until update D and a cooldown of c updates, which all follow
/// `train.steps` unless they are set in steps:
/// - step < w: η (step + 1) / (w + 1), so that the first update already moves and update w has η;
/// - constant: η from there on;
/// - cosine: η_min + ½ (1 + cos(π (step − w) / (D − w))) (η − η_min);
/// - linear: η_min + (D − step) / (D − w) (η − η_min);
/// - warmup_stable_decay: η, and from b = max(w, D − c) on η_min + (D − step) / (D − b) (η − η_min);
/// - all but constant: η_min after D.
pub fn learning_rate(config: &Config, step: u64) -> f64 {
    let schedule = &config.schedule;
    let (peak, lowest) = (config.optimizer.learning_rate, schedule.min_learning_rate);
    let Turns { warmup, fall, end } = schedule.turns(config.train.steps);
    if step < warmup {
        return peak * (step + 1) as f64 / (warmup as f64 + 1.0);
    }
    if step <= fall {
        return peak;
    }
    if step > end {
        return lowest;
    }
    let share = (step - fall) as f64 / (end - fall) as f64;
    let left = match schedule.kind {
        ScheduleKind::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * share).cos()),
        _ => 1.0 - share,
    };
    lowest + left * (peak - lowest)
}

/// The schedule of a run in words: "0.002 after 30 warm-up steps, cosine to 0.0002 at step 600".
pub fn describe(config: &Config) -> String {
    let schedule = &config.schedule;
    let Turns { warmup, fall, end } = schedule.turns(config.train.steps);
    let mut text = format!("{}", config.optimizer.learning_rate);
    if warmup > 0 {
        text += &format!(" after {warmup} warm-up step{}", if warmup == 1 { "" } else { "s" });
    }
    let lowest = schedule.min_learning_rate;
    text + &match schedule.kind {
        ScheduleKind::Constant => ", constant".to_owned(),
        ScheduleKind::WarmupStableDecay => format!(", from step {fall} linear to {lowest} at step {end}"),
        kind => format!(", {} to {lowest} at step {end}", kind.words()),
    }
}

/// What a run of `config` should be warned of: a warm-up that never ends, a rate that is at its minimum for long.
pub fn warnings(config: &Config) -> Vec<String> {
    let (steps, schedule) = (config.train.steps, &config.schedule);
    let (peak, lowest) = (config.optimizer.learning_rate, schedule.min_learning_rate);
    let Turns { warmup, end, .. } = schedule.turns(steps);
    if warmup >= steps {
        let last = learning_rate(config, steps.saturating_sub(1));
        return vec![format!(
            "warning: warm-up takes {warmup} steps and the run has {steps}: it ends at a learning rate of {last:.2e}, \
             not {peak:.2e}; lower schedule.warmup_steps, or set it below 1, a share of the run"
        )];
    }
    let resting = steps.saturating_sub(end.max(warmup));
    if lowest < peak && resting.saturating_mul(10) > steps {
        return vec![format!(
            "warning: the learning rate is at its minimum of {lowest:.2e} for the last {resting} of {steps} steps; \
             with schedule.decay_steps=0 the decay ends with the run"
        )];
    }
    Vec::new()
}

/// In what `new` turns elsewhere than `old` does since it has other steps, and the settings that keep it: the schedule
/// of a run follows `train.steps` unless it is set in steps.
pub fn moved(old: &Config, new: &Config) -> Option<(String, String)> {
    if old.train.steps == new.train.steps || old.schedule.kind != new.schedule.kind {
        return None;
    }
    let (was, is) = (old.schedule.turns(old.train.steps), new.schedule.turns(new.train.steps));
    let (mut moves, mut keeps) = (Vec::new(), Vec::new());
    if matches!(new.schedule.warmup_steps, Warmup::Share(_)) && was.warmup != is.warmup {
        moves.push(format!("warm-up from {} to {} steps", was.warmup, is.warmup));
        keeps.push(format!("--set schedule.warmup_steps={}", was.warmup));
    }
    if new.schedule.decay_steps == 0 && was.end != is.end {
        moves.push(format!("the decay's end from step {} to {}", was.end, is.end));
        keeps.push(format!("--set schedule.decay_steps={}", was.end));
    }
    (!moves.is_empty()).then(|| (moves.join(", "), keeps.join(" ")))
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
        config.schedule.warmup_steps = Warmup::Steps(9);
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
        config.schedule.warmup_steps = Warmup::Steps(0);
        assert_eq!(learning_rate(&config, 0), 0.01);
        config.schedule.warmup_steps = Warmup::Steps(200);
        for step in [0, 109, 199, 200, 201, 1000] {
            let rate = learning_rate(&config, step);
            assert!(rate > 0.0 && rate <= 0.01, "{step}: {rate}");
        }
        assert_eq!(learning_rate(&config, 201), 0.001);
        config.schedule.warmup_steps = Warmup::Steps(109);
        assert_eq!(learning_rate(&config, 109), 0.01);
    }

    fn preset(name: &str, sets: &[&str]) -> Config {
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        Config::resolve(Some(name), &sets).unwrap()
    }

    #[test]
    fn presets_at_their_own_steps_have_the_rates_that_fixed_numbers_gave_to_the_bit() {
        for (name, steps, warmup, end) in [
            ("tiny", 600, 30, 600),
            ("small", 5000, 200, 5000),
            ("seed", 1000, 500, 1000),
            ("seed-literal", 3000, 500, 1000),
            ("v2-lite", 10_000, 2000, 10_000),
            ("sft", 2400, 30, 2400),
            ("reward", 1500, 20, 1500),
            ("dpo", 200, 20, 200),
            ("grpo", 120, 5, 120),
            ("ppo", 200, 5, 200),
        ] {
            let config = preset(name, &[]);
            let mut fixed = config.clone();
            (fixed.schedule.warmup_steps, fixed.schedule.decay_steps) = (Warmup::Steps(warmup), end);
            assert_eq!(config.train.steps, steps, "{name}");
            for step in 0..=steps {
                assert_eq!(learning_rate(&config, step).to_bits(), learning_rate(&fixed, step).to_bits(), "{name}");
            }
        }
    }

    #[test]
    fn warm_up_and_decay_of_every_preset_follow_its_steps() {
        for name in ["tiny", "small", "seed", "v2-lite", "sft", "reward", "dpo", "grpo", "ppo"] {
            for steps in [4, 40, 4000] {
                let config = preset(name, &[&format!("train.steps={steps}")]);
                let rates: Vec<f64> = (0..=steps).map(|step| learning_rate(&config, step)).collect();
                assert!(rates.contains(&config.optimizer.learning_rate), "{name}, {steps}: {rates:?}");
                assert_eq!(rates.last(), Some(&config.schedule.min_learning_rate), "{name}, {steps}");
                assert_eq!(warnings(&config), Vec::<String>::new(), "{name}, {steps}");
            }
        }
    }

    #[test]
    fn a_schedule_that_does_not_suit_the_run_is_warned_of() {
        let warned = |sets: &[&str]| warnings(&preset("tiny", sets)).join("\n");
        let short = warned(&["train.steps=4", "schedule.warmup_steps=30"]);
        assert!(short.contains("warm-up takes 30 steps and the run has 4") && short.contains("2.58e-4"), "{short}");
        let long = warned(&["train.steps=5000", "schedule.decay_steps=600"]);
        assert!(long.contains("at its minimum of 2.00e-4 for the last 4400 of 5000 steps"), "{long}");
        for fine in [
            &["train.steps=660", "schedule.decay_steps=600"][..],
            &["train.steps=5000", "schedule.decay_steps=600", "schedule.kind=constant"],
            &["train.steps=5000", "schedule.decay_steps=600", "schedule.min_learning_rate=2e-3"],
            &["train.steps=1"],
        ] {
            assert_eq!(warned(fine), "", "{fine:?}");
        }
    }

    #[test]
    fn what_other_steps_move_is_named_with_what_keeps_it() {
        let (old, longer) = (preset("tiny", &[]), preset("tiny", &["train.steps=1200"]));
        let (moves, keeps) = moved(&old, &longer).unwrap();
        assert_eq!(moves, "warm-up from 30 to 60 steps, the decay's end from step 600 to 1200");
        let keeps: Vec<&str> = keeps.split(" --set ").map(|keep| keep.trim_start_matches("--set ")).collect();
        let kept = preset("tiny", &[&["train.steps=1200"], &keeps[..]].concat());
        assert!((0..600).all(|step| learning_rate(&kept, step) == learning_rate(&old, step)));
        assert_eq!(moved(&old, &kept), None);
        let constant = |steps| preset("tiny", &["schedule.kind=constant", "schedule.warmup_steps=9", steps]);
        assert_eq!(moved(&constant("train.steps=9"), &constant("train.steps=90")), None);
    }

    #[test]
    fn a_schedule_reads_as_a_phrase() {
        assert_eq!(describe(&preset("tiny", &[])), "0.002 after 30 warm-up steps, cosine to 0.0002 at step 600");
        let described = |sets: &[&str]| describe(&preset("tiny", sets));
        assert_eq!(described(&["schedule.kind=constant", "schedule.warmup_steps=0"]), "0.002, constant");
        assert_eq!(
            described(&["schedule.kind=warmup_stable_decay", "schedule.warmup_steps=1"]),
            "0.002 after 1 warm-up step, from step 540 linear to 0.0002 at step 600"
        );
    }
}
