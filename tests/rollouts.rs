//! Rollouts with the very weights that are trained, in their table and on their executor: what was drawn is as probable
//! to training as it was to the sampler, and as to a generator with a copy of the weights.

mod common;
#[path = "rollouts/lab.rs"]
mod lab;
#[path = "common/models.rs"]
mod models;

use hadal::config::lora::{LoraConfig, LoraTarget};
use hadal::config::model::ModelConfig;
use hadal::generate::{Completion, Finish, Request, Sampling};
use hadal::graph::{Dtype, Tensors};
use hadal::kernels::case::uniform;
use hadal::model::decoder::Decoder;
use hadal::model::lora::{adapted, is_adapter};
use hadal::model::weights::Weights;
use hadal::train::diagnosis;
use lab::{Lab, OPTIONS, Place, REFERENCE, SCORE, TEMPERATURE, copy, executor, places, whole};
use models::{Fixture, NO_LIMIT, SMALL_LIMIT, biased, tiny};

fn fixtures() -> [Fixture; 3] {
    let long = |c: ModelConfig| ModelConfig { max_position_embeddings: 64, ..c };
    let latent = ModelConfig { q_lora_rank: Some(6), tie_word_embeddings: true, ..tiny() };
    [
        Fixture::new("query latent, tied", long(latent), NO_LIMIT),
        Fixture::new("plain", long(tiny()), NO_LIMIT),
        Fixture::new("selection biases, in parts", long(biased(tiny())), SMALL_LIMIT),
    ]
}

/// Every model on the CPU; on the adapter, which compiles long, that in parts in f32 and the tied one in f16.
fn cases(stored: Dtype) -> Vec<(Place, Fixture)> {
    let mut all: Vec<_> = fixtures().into_iter().map(|fixture| (None, fixture)).collect();
    let [tied, .., parts] = fixtures();
    let adapter = places(stored).pop().filter(Option::is_some);
    all.extend(adapter.map(|place| (place, if stored == Dtype::F32 { parts } else { tied })));
    all
}

/// Prompts and answers of unequal lengths; some answers end by a token.
fn requests(temperature: f64) -> Vec<Request> {
    let request = |seed: u64, prompt: &[u32], max_tokens, stop: &[u32]| Request {
        prompt: prompt.to_vec(),
        max_tokens,
        stop: stop.to_vec(),
        sampling: Sampling { temperature, seed, ..Sampling::default() },
    };
    vec![
        request(1, &[3, 1, 16, 4, 1, 5, 9], 9, &[]),
        request(2, &[2], 14, &[]),
        request(3, &[7, 7, 7, 7, 7, 7, 7, 7, 7, 7], 1, &[]),
        request(4, &[5, 6], 15, &[0, 1, 2, 3, 4, 5, 6]),
        request(5, &[11, 12, 13, 14], 20, &[8, 9]),
        request(6, &[2, 0, 2], 6, &[]),
    ]
}

/// The largest difference; NaN is the worst of all. Lengths that differ are a slip of the test.
fn worst(found: &[Vec<f64>], expected: &[Vec<f64>]) -> f64 {
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), expected.iter().map(Vec::len).collect::<Vec<_>>());
    let errors = found.iter().flatten().zip(expected.iter().flatten()).map(|(f, e)| (f - e).abs());
    errors.fold(0.0, |m: f64, x| if x <= m || m.is_nan() { m } else { x })
}

#[test]
fn the_comparison_sees_a_planted_error() {
    let [rows, spoilt] = [[-1.0, -2.0], [-1.0, -2.1]].map(|row| vec![row.to_vec(), vec![-3.0]]);
    assert_eq!(worst(&rows, &rows), 0.0);
    assert!(worst(&spoilt, &rows) > 0.09 && worst(&[vec![f64::NAN]], &[vec![0.0]]).is_nan());
}

fn off() -> LoraConfig {
    LoraConfig::default()
}

/// In f16 both go different ways to the same numbers: what they differ by is stated, with much room.
#[test]
fn what_is_drawn_is_as_probable_to_training_as_to_the_sampler() {
    for (stored, bound) in [(Dtype::F32, 1e-4), (Dtype::F16, 0.1)] {
        for (place, fixture) in cases(stored) {
            let mut lab = Lab::new(fixture, stored, &place, &off());
            let requests = requests(TEMPERATURE);
            let completions = lab.generate(&requests);
            let (tokens, log_probs): (Vec<_>, Vec<_>) = requests.iter().map(|request| lab.drawn(request)).unzip();
            assert_eq!(tokens, completions.iter().map(whole).collect::<Vec<_>>(), "{}", lab.fixture.name);
            check_ends(&completions);
            let error = worst(&lab.measured(SCORE, &requests, &completions).0, &log_probs);
            println!("{stored:?}, {}, {}: at most {error:.1e}", lab.session.executor().describe(), lab.fixture.name);
            assert!(error < bound, "{stored:?}, {}: {error:e}", lab.fixture.name);
            // A weight that changes in between.
            let all = &lab.session.program.weights.all;
            let at = all.iter().position(|p| p.spec.name == "model.layers.1.self_attn.o_proj.weight").unwrap();
            let values: Vec<f32> = lab.session.parameter(at).unwrap().iter().map(|x| 2.0 * x).collect();
            lab.session.load_parameter(at, &values).unwrap();
            lab.session.refresh().unwrap();
            let error = worst(&lab.measured(SCORE, &requests, &completions).0, &log_probs);
            assert!(error > bound, "{stored:?}, {}: a changed weight makes {error:e}", lab.fixture.name);
        }
    }
}

fn check_ends(completions: &[Completion]) {
    let lengths: Vec<usize> = completions.iter().map(|completion| whole(completion).len()).collect();
    assert_eq!([lengths[0], lengths[1], lengths[2], lengths[5]], [9, 14, 1, 6]);
    let Finish::Stop(token) = completions[3].finish else { panic!("an end: {completions:?}") };
    assert!(token <= 6 && completions[3].tokens.iter().all(|&token| token > 6), "{completions:?}");
}

#[test]
fn greedy_rollouts_are_the_same_whoever_else_is_there_and_as_a_generator_s() {
    for stored in [Dtype::F32, Dtype::F16] {
        for (place, fixture) in cases(stored) {
            let mut lab = Lab::new(fixture, stored, &place, &off());
            let requests = requests(0.0);
            let together = lab.generate(&requests);
            let reversed: Vec<_> = requests.iter().rev().cloned().collect();
            let mut again = lab.generate(&reversed);
            again.reverse();
            assert_eq!(again, together, "{}, in another order", lab.fixture.name);
            for (request, expected) in requests.iter().zip(&together) {
                assert_eq!(lab.generate(std::slice::from_ref(request))[0], *expected, "{}", lab.fixture.name);
            }
            assert!(lab.session.executor().arrived(false).unwrap().is_empty(), "nothing is on its way");
            let copied = lab.generator(&place).generate(&requests).unwrap();
            assert_eq!(copied, together, "{stored:?}, {}: as a generator's", lab.fixture.name);
        }
    }
}

#[test]
fn the_next_rollout_has_the_weights_of_the_last_update() {
    for stored in [Dtype::F32, Dtype::F16] {
        for place in places(stored) {
            let [fixture, ..] = fixtures();
            let mut lab = Lab::new(fixture, stored, &place, &off());
            let requests = requests(TEMPERATURE);
            let before = lab.generate(&requests);
            let old = lab.measured(SCORE, &requests, &before).0;
            lab.update(&requests, &before);
            let after = lab.generate(&requests);
            assert_ne!(after, before);
            assert_eq!(after, lab.generator(&place).generate(&requests).unwrap(), "{stored:?}");
            let new = lab.measured(SCORE, &requests, &before).0;
            assert!(new.concat().iter().sum::<f64>() > old.concat().iter().sum(), "what was learnt is more probable");
        }
    }
}

#[test]
fn a_rollout_after_a_lost_device_begins_anew() {
    let place = None;
    let [fixture, ..] = fixtures();
    let mut lab = Lab::new(fixture, Dtype::F32, &place, &off());
    let requests = requests(0.0);
    let expected = lab.generate(&requests);
    for request in &requests {
        lab.engine.submit(request.clone()).unwrap();
    }
    (0..4).for_each(|_| drop(lab.engine.advance(lab.session.executor()).unwrap()));
    assert!(!lab.engine.is_idle());
    lab.engine.reset();
    assert!(lab.engine.is_idle() && lab.engine.waiting() == 0);
    let program = &lab.session.program;
    let mut fresh = executor(&place, &program.tensors, &program.recordings);
    let read = program.weights.read();
    read.load(fresh.as_mut(), |spec, values| copy(&lab.fixture.params[&spec.name], values)).unwrap();
    assert_eq!(lab.engine.generate(fresh.as_mut(), &requests).unwrap(), expected);
    // What is refused leaves nothing behind.
    let bad = [requests[0].clone(), Request { prompt: vec![99], ..requests[1].clone() }];
    let error = lab.engine.generate(fresh.as_mut(), &bad).unwrap_err().to_string();
    assert!(error.contains("token 99") && lab.engine.is_idle(), "{error}");
}

#[test]
fn frozen_weights_in_the_same_table_give_the_losses_of_the_trained_ones_and_keep_them() {
    for stored in [Dtype::F32, Dtype::F16] {
        for (place, fixture) in cases(stored) {
            let mut lab = Lab::new(fixture, stored, &place, &off());
            lab.freeze();
            let requests = requests(TEMPERATURE);
            let completions = lab.generate(&requests);
            let (score, losses) = lab.measured(SCORE, &requests, &completions);
            let (reference, kept) = lab.measured(REFERENCE, &requests, &completions);
            let name = lab.fixture.name;
            if stored == Dtype::F32 || !lab.fixture.config.tie_word_embeddings {
                assert_eq!((&kept, &reference), (&losses, &score), "{stored:?}, {name}");
            }
            // A tied embedding is looked up in f32 where it is trained, in f16 where it is frozen.
            let error = worst(&reference, &score);
            println!("{stored:?}, {name}: {error:.1e}");
            assert!(error < 1e-2, "{stored:?}, {name}: {error:e}");
            lab.update(&requests, &completions);
            assert_eq!(lab.measured(REFERENCE, &requests, &completions).1, kept, "a reference stays");
            assert!(worst(&lab.measured(SCORE, &requests, &completions).0, &reference) > 0.1);
        }
    }
}

#[test]
fn beside_adapters_rollouts_are_drawn_with_merged_weights() {
    use LoraTarget::{DownProj, GateProj, KvBProj, OProj, QProj};
    let targets = Some(vec![QProj, KvBProj, OProj, GateProj, DownProj]);
    let lora = LoraConfig { rank: 3, alpha: Some(4.5), targets };
    for place in places(Dtype::F32) {
        let [mut fixture, ..] = fixtures();
        let specs = adapted(&fixture.config, &lora);
        for (seed, spec) in (300..).zip(specs.iter().filter(|spec| is_adapter(spec))) {
            let values = uniform(seed, spec.elements()).iter().map(|x| 0.5 * x).collect();
            fixture.params.insert(spec.name.clone(), values);
        }
        let mut lab = Lab::new(fixture, Dtype::F32, &place, &lora);
        lab.freeze();
        let requests = requests(TEMPERATURE);
        let completions = lab.generate(&requests);
        let log_probs: Vec<_> = requests.iter().map(|request| lab.drawn(request).1).collect();
        let error = worst(&lab.measured(SCORE, &requests, &completions).0, &log_probs);
        assert!(error < 1e-4, "{error:e}");
        lab.update(&requests, &completions);
        assert_eq!(lab.generate(&requests), completions, "the merged copy is still the old one");
        lab.freeze();
        assert_ne!(lab.generate(&requests), completions);
    }
}

#[test]
#[should_panic(expected = "merged weights")]
fn a_decoder_does_not_take_adapted_weights() {
    let config = tiny();
    let lora = LoraConfig { rank: 3, targets: Some(vec![LoraTarget::QProj]), ..LoraConfig::default() };
    let mut tensors = Tensors::default();
    let weights = Weights::new(&mut tensors, &adapted(&config, &lora), NO_LIMIT, true, Dtype::F32, |_| None);
    let options = OPTIONS.decoder(NO_LIMIT, Dtype::F32);
    Decoder::add(&mut tensors, &mut Vec::new(), &config, weights.read(), options);
}

#[test]
fn a_bad_number_of_a_frozen_weight_is_found_under_its_own_name() {
    let [.., fixture] = fixtures();
    let mut lab = Lab::new(fixture, Dtype::F32, &None, &off());
    lab.freeze();
    let (program, executor) = lab.session.parts();
    assert_eq!(diagnosis::before(program, executor).unwrap(), None);
    let at = lab.frozen.all.iter().position(|p| p.spec.name.ends_with("layers.1.self_attn.kv_b_proj.weight")).unwrap();
    let tensor = lab.frozen.all[at].weight.single();
    executor.upload(tensor, &[1.0, f32::NAN]).unwrap();
    let found = diagnosis::before(program, executor).unwrap().unwrap();
    assert_eq!(found.tensor, "reference.model.layers.1.self_attn.kv_b_proj.weight");
    assert_eq!((found.layer, found.index, found.kind), (Some(1), 1, diagnosis::Kind::Parameter));
}
