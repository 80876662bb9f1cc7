//! Objectives of preference training: beside TRL's values, on the adapter beside the judge, in pieces beside the whole.

mod common;
#[path = "common/ops.rs"]
mod ops;

use hadal::gpu::executor::GpuExecutor;
use hadal::gpu::pipeline::Allowed;
use hadal::graph::objective::{Goal, Objective, Policy, Preference, Reward, ScoreGoal, Value};
use hadal::graph::op::{Adapter, Linear, LossSlots, Weight};
use hadal::graph::run_cpu::CpuExecutor;
use hadal::graph::tape::Tape;
use hadal::graph::{Dtype, Executor, Recording, Role, Tensor, Tensors};
use hadal::kernels::case::{indices, uniform};
use hadal::kernels::state::{self, IGNORED};
use ops::programs;

/// An error beyond `share` of the largest expected value, or none.
fn compare(what: &str, found: &[f64], expected: &[f64], share: f64) -> Result<(), String> {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let near = |(f, e): (&f64, &f64)| (f - e).abs() <= share * largest; // which a NaN is not
    match found.iter().zip(expected).position(|pair| !near(pair)) {
        None => Ok(()),
        Some(i) => Err(format!("{what}[{i}] is {}, expected {}", found[i], expected[i])),
    }
}

#[test]
fn the_comparison_sees_a_planted_error() {
    assert!(compare("x", &[1.0, 2.0], &[1.0, 2.0], 1e-9).is_ok());
    assert!(compare("x", &[1.0 + 3e-9, 2.0], &[1.0, 2.0], 1e-9).is_err());
    assert!(compare("x", &[f64::NAN, 2.0], &[1.0, 2.0], 1e-9).is_err());
}

fn wide(values: Vec<f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}

#[test]
fn the_adapter_agrees_with_the_judge_on_every_objective() {
    let Some(gpu) = common::gpu() else { return };
    let mut seen = 0;
    for program in programs() {
        let names = ["preference", "policy", "value", "reward"];
        if !names.iter().any(|name| program.name.starts_with(name)) {
            continue;
        }
        seen += 1;
        let recordings = std::slice::from_ref(&program.recording);
        let mut judge = CpuExecutor::<f64>::new(&program.tensors, recordings);
        let mut device = GpuExecutor::new(gpu.clone(), &program.tensors, recordings, &Allowed::portable()).unwrap();
        for executor in [&mut judge as &mut dyn Executor, &mut device] {
            for (tensor, values) in &program.reals {
                executor.upload(*tensor, &values.iter().map(|&x| x as f32).collect::<Vec<_>>()).unwrap();
            }
            program.integers.iter().for_each(|(tensor, values)| executor.upload_indices(*tensor, values).unwrap());
            executor.run(0).unwrap();
        }
        let gradients = program.wanted.iter().map(|&x| program.gradient(x));
        for tensor in gradients.chain(program.objective.iter().map(|(metrics, _)| *metrics)) {
            let what = format!("{}: {}", program.name, program.tensors.info(tensor).name);
            let found = wide(device.download(tensor).unwrap());
            compare(&what, &found, judge.get(tensor), 1e-5).unwrap_or_else(|e| panic!("{e}"));
        }
    }
    assert_eq!(seen, 11);
}

const WIDTH: usize = 6;
const CLASSES: usize = 12;
const LENGTH: usize = 5;

/// A loss head over hidden states that the host writes, and all that it uses.
struct Head {
    tensors: Tensors,
    recordings: Vec<Recording>,
    h: Tensor,
    w: Tensor,
    slots: LossSlots,
    state: Tensor,
    objective: Option<Objective>,
}

fn slots(t: &mut Tensors, n: usize) -> LossSlots {
    LossSlots {
        targets: t.index("targets", &[n], Role::Input),
        loss_weights: t.real("loss_weights", &[n], Role::Input),
        losses: t.real("losses", &[n], Role::State),
        correct: t.real("correct", &[n], Role::State),
        metrics: t.real("metrics", &[state::METRIC_WORDS], Role::State),
        result: t.real("result", &[state::RESULT_WORDS], Role::Input),
    }
}

/// Trains and evaluates over `n` rows with the objective that `goal` makes, if any; a limit of bindings makes chunks.
fn head(n: usize, limit: u64, goal: impl FnOnce(&mut Tensors, Tensor) -> Option<Option<Goal>>) -> Head {
    let mut t = Tensors::default();
    let h = t.real("h", &[n, WIDTH], Role::Input);
    let w = t.parameter("w", &[CLASSES, WIDTH]);
    let state = t.index("state", &[state::STATE_WORDS], Role::Input);
    let slots = slots(&mut t, n);
    let objective = goal(&mut t, state).map(|goal| Objective::new(&mut t, n, goal));
    let weight = Weight::whole(&t, w);
    let mut tape = Tape::training(&mut t, limit);
    tape.head_loss(h, &weight, slots, objective);
    let train = tape.finish("train");
    let mut tape = Tape::evaluation(&mut t, limit);
    tape.head_loss(h, &weight, slots, objective);
    let recordings = vec![train, tape.finish("evaluate")];
    Head { tensors: t, recordings, h, w, slots, state, objective }
}

const NO_LIMIT: u64 = 1 << 30;

impl Head {
    fn d_w(&self) -> Tensor {
        self.tensors.gradient_of(self.w).unwrap()
    }

    /// Writes rows `first..` of seeded data, and `1 / pairs`.
    fn write(&self, device: &mut dyn Executor, first: usize, inverse_pairs: f32) {
        let n = self.tensors.extent(self.h, 0);
        let seeded = |seed, width: usize| {
            let all = uniform(seed, (first + n) * width).into_iter().map(|x| 2.0 * x as f32).collect::<Vec<_>>();
            all[first * width..].to_vec()
        };
        let mut targets = indices(3, first + n, CLASSES as u32)[first..].to_vec();
        targets.iter_mut().enumerate().filter(|(i, _)| (first + i) % 7 == 6).for_each(|(_, y)| *y = IGNORED);
        let mut words = [0; state::STATE_WORDS];
        words[state::STATE_INVERSE_PAIRS] = inverse_pairs.to_bits();
        device.upload(self.h, &seeded(1, WIDTH)).unwrap();
        device.upload(self.w, &uniform(2, CLASSES * WIDTH).iter().map(|&x| x as f32).collect::<Vec<_>>()).unwrap();
        device.upload_indices(self.slots.targets, &targets).unwrap();
        device.upload_indices(self.state, &words).unwrap();
        device.upload(self.slots.loss_weights, &seeded(4, 1)).unwrap();
        device.upload(self.slots.result, &state::first_result(1.0)).unwrap();
    }

    fn executors(&self) -> Vec<Box<dyn Executor>> {
        let mut all: Vec<Box<dyn Executor>> = vec![Box::new(CpuExecutor::<f32>::new(&self.tensors, &self.recordings))];
        if let Some(gpu) = common::gpu() {
            all.push(Box::new(GpuExecutor::new(gpu, &self.tensors, &self.recordings, &Allowed::portable()).unwrap()));
        }
        all
    }

    fn steps(&self, recording: usize) -> Vec<&'static str> {
        self.recordings[recording].steps.iter().map(|step| step.kernel.stem).collect()
    }
}

#[test]
fn without_a_goal_training_is_cross_entropy_bit_for_bit_and_its_losses_are_the_log_probabilities() {
    let plain = head(3 * LENGTH, NO_LIMIT, |_, _| None);
    let scored = head(3 * LENGTH, NO_LIMIT, |_, _| Some(None));
    let objective = scored.objective.unwrap();
    for (mut one, mut other) in plain.executors().into_iter().zip(scored.executors()) {
        plain.write(&mut *one, 0, 0.0);
        scored.write(&mut *other, 0, 0.0);
        one.run(0).unwrap();
        other.run(0).unwrap();
        assert_eq!(one.download(plain.d_w()).unwrap(), other.download(scored.d_w()).unwrap());
        let losses = wide(other.download(scored.slots.losses).unwrap());
        let log_probs = wide(other.download(objective.log_probs).unwrap());
        let negated: Vec<f64> = log_probs.iter().map(|x| -x).collect();
        compare("losses", &losses, &negated, 1e-6).unwrap();
        assert!(log_probs[6] == 0.0 && log_probs[5] < 0.0, "an ignored target");
        other.run(1).unwrap();
        assert_eq!(log_probs, wide(other.download(objective.log_probs).unwrap()), "evaluation gives the same");
    }
}

fn policy(t: &mut Tensors, n: usize) -> Policy {
    Policy::new(t, n, [0.2, 0.2], [0.5, 0.25])
}

#[test]
fn logits_are_made_once_where_a_chunk_holds_all_rows_and_never_read_back() {
    let products = |head: &Head| head.steps(0).iter().filter(|stem| **stem == "matmul").count();
    let goal = |t: &mut Tensors, _| Some(Some(Goal::Policy(policy(t, 20))));
    let (plain, one) = (head(20, NO_LIMIT, |_, _| None), head(20, NO_LIMIT, goal));
    assert_eq!(plain.steps(0), ["matmul", "cross_entropy", "matmul", "loss_sum"]);
    let before = ["matmul", "log_probs", "policy_loss", "metric_sum"];
    assert_eq!(one.steps(0), [&before[..], &["cross_entropy", "matmul", "loss_sum"]].concat());
    let evaluated = ["matmul", "log_probs", "cross_entropy", "policy_loss", "metric_sum", "loss_sum"];
    assert_eq!(one.steps(1), evaluated);
    let two_rows = 2 * 4 * CLASSES as u64;
    let (plain, many) = (head(20, two_rows, |_, _| None), head(20, two_rows, goal));
    assert_eq!((products(&plain), products(&many)), (20, 30));
}

/// What was measured by the first pass is what the tokens were drawn with: no ratio is off by even a rounding.
#[test]
fn the_first_update_has_ratios_of_exactly_1_and_no_divergence() {
    let n = 40;
    for limit in [NO_LIMIT, 16 * 4 * CLASSES as u64] {
        let head = head(n, limit, |t, _| Some(Some(Goal::Policy(policy(t, n)))));
        let objective = head.objective.unwrap();
        let Some(Goal::Policy(goal)) = objective.goal else { panic!("a policy") };
        for mut device in head.executors() {
            head.write(&mut *device, 0, 0.0);
            device.run(1).unwrap();
            let first = device.download(objective.log_probs).unwrap();
            device.upload(goal.old, &first).unwrap();
            device.upload(goal.reference.unwrap(), &first).unwrap();
            device.upload(goal.advantages, &vec![0.5; n]).unwrap();
            device.upload(goal.factors, &vec![0.25; n]).unwrap();
            device.clear(goal.results.metrics).unwrap();
            device.run(0).unwrap();
            let metrics = device.download(goal.results.metrics).unwrap();
            let words = [state::TOKEN_COUNTED, state::TOKEN_RATIO, state::TOKEN_KL, state::TOKEN_CHANGE];
            assert_eq!(words.map(|word| metrics[word]), [n as f32, n as f32, 0.0, 0.0], "{}", device.describe());
            assert_eq!(device.download(head.slots.loss_weights).unwrap(), vec![0.125; n]);
        }
    }
}

/// Two micro-batches of a window beside the same rows in one, whose second has a pair of padding more.
#[test]
fn preferences_in_two_micro_batches_have_the_gradient_of_one() {
    let pairs_of = |pairs: usize| {
        let goal =
            move |t: &mut Tensors, state| Some(Some(Goal::Preference(Preference::new(t, pairs, state, [0.5, 0.0]))));
        let head = head(2 * pairs * LENGTH, NO_LIMIT, goal);
        let Some(Goal::Preference(goal)) = head.objective.unwrap().goal else { panic!("preferences") };
        let device = CpuExecutor::<f64>::new(&head.tensors, &head.recordings);
        (head, goal, device)
    };
    let sums: Vec<f32> = uniform(7, 6).into_iter().map(|x| (4.0 * x - 12.0) as f32).collect();
    let run = |(head, goal, device): &mut (Head, Preference, CpuExecutor<f64>), first: usize, count: usize| {
        head.write(device, 2 * first * LENGTH, 1.0 / 3.0);
        device.upload(goal.reference, &sums[2 * first..2 * (first + count)]).unwrap();
        let all = head.tensors.extent(goal.reference, 0);
        if count < all {
            let mut targets = device.get_indices(head.slots.targets).to_vec();
            targets[2 * count * LENGTH..].fill(IGNORED);
            device.upload_indices(head.slots.targets, &targets).unwrap();
        }
        device.run(0).unwrap();
    };
    let (mut whole, mut parts) = (pairs_of(3), pairs_of(2));
    run(&mut whole, 0, 3);
    run(&mut parts, 0, 2);
    run(&mut parts, 2, 1);
    let gradient = |(head, _, device): &(Head, Preference, CpuExecutor<f64>)| device.get(head.d_w()).to_vec();
    compare("gradient", &gradient(&parts), &gradient(&whole), 1e-12).unwrap();
    let metrics = |(_, goal, device): &(Head, Preference, CpuExecutor<f64>)| device.get(goal.results.metrics).to_vec();
    compare("metrics", &metrics(&parts), &metrics(&whole), 1e-12).unwrap();
    assert_eq!(metrics(&parts)[state::PAIR_COUNTED], 3.0);
    assert!(compare("gradient", &gradient(&pairs_of(3)), &gradient(&whole), 1e-12).is_err());
}

#[test]
fn rewards_are_the_scores_of_last_tokens_and_nothing_else_moves_them() {
    let (pairs, n) = (2, 4 * LENGTH);
    let mut t = Tensors::default();
    let h = t.real("h", &[n, WIDTH], Role::Input);
    let w = t.parameter("w", &[1, WIDTH]);
    let state = t.index("state", &[state::STATE_WORDS], Role::Input);
    let result = t.real("result", &[state::RESULT_WORDS], Role::Input);
    let goal = Reward::new(&mut t, pairs, [state, result], 0.0);
    let weight = Weight::whole(&t, w);
    let mut tape = Tape::training(&mut t, NO_LIMIT);
    tape.score_head_loss(h, &weight, ScoreGoal::Reward(goal));
    let recording = tape.finish("train");
    let ends = [4, 2, 0, IGNORED];
    let run = |hidden: &[f64]| {
        let mut device = CpuExecutor::<f64>::new(&t, std::slice::from_ref(&recording));
        device.set(h, hidden);
        device.set(w, &uniform(2, WIDTH));
        let mut words = [0; state::STATE_WORDS];
        words[state::STATE_INVERSE_PAIRS] = 1f32.to_bits();
        device.upload_indices(state, &words).unwrap();
        device.upload_indices(goal.ends, &ends).unwrap();
        device.set(result, &state::first_result(1.0).map(f64::from));
        device.run(0).unwrap();
        (device.get(goal.results.rows).to_vec(), device.get(t.gradient_of(w).unwrap()).to_vec())
    };
    let hidden = uniform(1, n * WIDTH);
    let (rows, gradient) = run(&hidden);
    let reward = |token: usize| (0..WIDTH).map(|i| hidden[token * WIDTH + i] * uniform(2, WIDTH)[i]).sum::<f64>();
    let rewards = [rows[state::PAIR_CHOSEN], rows[state::PAIR_REJECTED]];
    compare("rewards", &rewards, &[reward(4), reward(LENGTH + 2)], 1e-14).unwrap();
    assert_eq!(rows[state::SCORED_PAIR_COLUMNS..], [0.0; 5], "a pair with one end is padding");
    let mut moved = hidden.clone();
    let kept = |token: usize| [4, LENGTH + 2].contains(&token);
    moved.iter_mut().enumerate().filter(|(i, _)| !kept(i / WIDTH)).for_each(|(_, x)| *x += 1.0);
    assert_eq!(run(&moved), (rows, gradient));
}

/// Gradients of the norm's weight, of the head and of the value head, with activations stored as `stored`.
fn of_both_heads(stored: Dtype, loss_scale: f32, on_adapter: bool) -> Option<[Vec<f64>; 3]> {
    let n = 24;
    let mut t = Tensors::default();
    let x = t.real("x", &[n, WIDTH], Role::Input);
    let parameters = [("norm", vec![WIDTH]), ("w", vec![CLASSES, WIDTH]), ("v", vec![1, WIDTH])]
        .map(|(name, shape)| t.parameter(name, &shape));
    let [norm, w, v] = parameters;
    let copy = (stored == Dtype::F16).then(|| vec![t.add("copy", &[CLASSES, WIDTH], Dtype::F16, Role::Copy)]);
    let weight = Weight { copies: copy.clone(), ..Weight::whole(&t, w) };
    let v = Weight::whole(&t, v);
    let slots = slots(&mut t, n);
    let policy = policy(&mut t, n);
    let value = Value::new(&mut t, n, policy.factors, slots.result, [0.5, 0.25]);
    let objective = Objective::new(&mut t, n, Some(Goal::Policy(policy)));
    let mut tape = Tape::training(&mut t, NO_LIMIT).storing(stored);
    let h = tape.rms_norm(x, norm, 1e-5);
    tape.head_loss(h, &weight, slots, Some(objective));
    tape.score_head_loss(h, &v, ScoreGoal::Value(value));
    let recordings = [tape.finish("train")];
    let mut device: Box<dyn Executor> = if on_adapter {
        let gpu = common::gpu().filter(|gpu| stored == Dtype::F32 || gpu.summary.has_f16())?;
        Box::new(GpuExecutor::new(gpu, &t, &recordings, &Allowed::portable()).unwrap())
    } else {
        Box::new(CpuExecutor::<f64>::new(&t, &recordings))
    };
    let mut seed = 0;
    let mut write = |tensor: Tensor, shift: f32| {
        seed += 1;
        let values: Vec<f32> = uniform(seed, t.elements(tensor)).iter().map(|&x| x as f32 + shift).collect();
        device.upload(tensor, &values).unwrap();
        values
    };
    let reference = policy.reference.unwrap();
    for tensor in [x, norm, policy.advantages, value.old, value.returns] {
        write(tensor, 0.0);
    }
    for tensor in [policy.old, reference] {
        write(tensor, -2.5);
    }
    write(policy.factors, 1.5);
    write(parameters[2], 0.0);
    let head = write(w, 0.0);
    copy.iter().flatten().for_each(|&copy| device.upload(copy, &head).unwrap());
    device.upload_indices(slots.targets, &indices(3, n, CLASSES as u32)).unwrap();
    device.upload(slots.result, &state::first_result(loss_scale)).unwrap();
    device.run(0).unwrap();
    let unscaled = |x: f32| f64::from(x / loss_scale);
    let gradient =
        |parameter| device.download(t.gradient_of(parameter).unwrap()).unwrap().into_iter().map(unscaled).collect();
    Some(parameters.map(gradient))
}

#[test]
fn in_f16_both_heads_have_the_gradients_of_f32_whatever_the_loss_scale() {
    let exact = of_both_heads(Dtype::F32, 1.0, false).unwrap();
    let agree = |what: &str, found: Option<[Vec<f64>; 3]>, share: f64| {
        for (found, exact) in found.iter().flatten().zip(&exact) {
            compare(what, found, exact, share).unwrap();
        }
    };
    agree("scaled", of_both_heads(Dtype::F32, 1024.0, false), 1e-6);
    agree("f16", of_both_heads(Dtype::F16, 1024.0, false), 5e-3);
    agree("f32 on the adapter", of_both_heads(Dtype::F32, 1024.0, true), 1e-5);
    agree("f16 on the adapter", of_both_heads(Dtype::F16, 1024.0, true), 5e-3);
}

/// Steps of both heads behind a norm, of which only what is named has a gradient.
fn steps_where_trained(trained: &[&str]) -> Vec<&'static str> {
    let n = 8;
    let mut t = Tensors::default();
    let mut weight = |name: &str, shape: &[usize]| {
        let frozen = !trained.contains(&name);
        let w = if frozen { t.real(name, shape, Role::Parameter) } else { t.parameter(name, shape) };
        Weight::whole(&t, w)
    };
    let [norm, w, v] = [weight("norm", &[WIDTH]), weight("w", &[CLASSES, WIDTH]), weight("v", &[1, WIDTH])];
    let [a, b] = [weight("a", &[2, WIDTH]), weight("b", &[CLASSES, 2])];
    let adapter = trained.contains(&"a").then_some(Adapter { a: &a, b: &b, scale: 0.5 });
    let (x, slots, policy) = (t.real("x", &[n, WIDTH], Role::Input), slots(&mut t, n), policy(&mut t, n));
    let value = Value::new(&mut t, n, policy.factors, slots.result, [0.5, 0.25]);
    let objective = Objective::new(&mut t, n, Some(Goal::Policy(policy)));
    let mut tape = Tape::training(&mut t, NO_LIMIT);
    let h = tape.rms_norm(x, norm.single(), 1e-5);
    tape.head_loss(h, Linear { weight: &w, adapter }, slots, Some(objective));
    tape.score_head_loss(h, &v, ScoreGoal::Value(value));
    tape.finish("train").steps.iter().map(|step| step.kernel.stem).collect()
}

#[test]
fn beside_frozen_weights_both_losses_are_made_but_no_gradient_that_reaches_nothing() {
    let policy =
        |terms| [vec!["matmul"; terms], vec!["log_probs", "policy_loss", "metric_sum", "cross_entropy"]].concat();
    let value = ["loss_sum", "matmul", "value_loss", "metric_sum"];
    // Of the value head alone: not even the gradient of the hidden states.
    assert_eq!(steps_where_trained(&["v"]), [&["rms_norm"], &policy(1)[..], &value, &["matmul"]].concat());
    // Of an adapter of the head: B and what it reads in the sweep, then A, and nothing of the values.
    let adapted = [&["rms_norm", "matmul", "scale"], &policy(2)[..], &["matmul"; 2], &value, &["scale", "matmul"]];
    assert_eq!(steps_where_trained(&["a", "b"]), adapted.concat());
    // Of what is before both: both ways back, and neither matrix.
    let before = [&["rms_norm"], &policy(1)[..], &["matmul"], &value, &["matmul", "add", "rms_norm_weight_grad"]];
    assert_eq!(steps_where_trained(&["norm"]), before.concat());
}
