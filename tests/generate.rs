//! Generation beside the independent judge: the latent cache and absorbed projections change nothing, nor does who else
//! is in the batch.

mod common;
#[path = "common/models.rs"]
mod models;

use hadal::config::model::ModelConfig;
use hadal::config::rope::RopeType;
use hadal::generate::{Completion, Event, Finish, Generator, GeneratorOptions, Request, Sampling};
use hadal::gpu::executor::GpuExecutor;
use hadal::gpu::pipeline::Allowed;
use hadal::graph::Dtype;
use hadal::graph::run_cpu::{CpuExecutor, CpuReal};
use hadal::model::decoder::Standalone;
use hadal::reference::model as judge;
use models::{Fixture, fixtures, relative};

/// Prompts are longer than a pass, positions fill more than a tile of 64 keys in the longest case.
const OPTIONS: GeneratorOptions = GeneratorOptions { slots: 3, capacity: 16, chunk: 5, known: 17 };

fn decoder(fixture: &Fixture, options: GeneratorOptions) -> Standalone {
    Generator::decoder_of(&fixture.config, options, fixture.binding_limit, Dtype::F32)
}

fn load(fixture: &Fixture, generator: &mut Generator) {
    generator
        .load(|spec, values| {
            values.iter_mut().zip(&fixture.params[&spec.name]).for_each(|(value, &x)| *value = x as f32);
            Ok(())
        })
        .unwrap();
}

fn cpu<F: CpuReal>(fixture: &Fixture, options: GeneratorOptions) -> Generator {
    let decoder = decoder(fixture, options);
    let executor = Box::new(CpuExecutor::<F>::new(&decoder.tensors, &decoder.recordings));
    let mut generator = Generator::on(decoder, executor);
    load(fixture, &mut generator);
    generator
}

/// The judge's logits after `ids`.
fn judged(fixture: &Fixture, ids: &[u32]) -> Vec<f64> {
    let logits = judge::logits(&fixture.config, &fixture.params, &judge::Batch::of(ids, 1, ids.len()));
    logits[logits.len() - fixture.config.vocab_size..].to_vec()
}

fn request(prompt: &[u32], max_tokens: usize, sampling: Sampling) -> Request {
    Request { prompt: prompt.to_vec(), max_tokens, stop: Vec::new(), sampling }
}

/// The worst difference of logits on the way of one greedy answer, relative to the largest, and the answer.
fn follow(fixture: &Fixture, generator: &mut Generator, prompt: &[u32], tokens: usize) -> (f64, Vec<u32>) {
    generator.submit(request(prompt, tokens, Sampling::greedy())).unwrap();
    let (mut ids, mut worst) = (prompt.to_vec(), 0.0f64);
    while !generator.is_idle() {
        let events = generator.advance().unwrap();
        let drawn = events.iter().filter_map(|event| match event {
            Event::Token { token, .. } => Some(*token),
            Event::Done { .. } => None,
        });
        ids.extend(drawn);
        if !events.is_empty() {
            // The last pass drew the last token.
            let found: Vec<f64> = generator.logits().unwrap().into_iter().map(f64::from).collect();
            let known = judged(fixture, &ids[..ids.len() - 1]);
            worst = worst.max(relative(&found[..known.len()], &known));
        }
    }
    (worst, ids.split_off(prompt.len()))
}

/// Fixtures whose rotation does not change with the length, which a cache cannot follow; their texts of one document.
fn cacheable() -> impl Iterator<Item = Fixture> {
    fixtures().into_iter().filter(|fixture| fixture.config.rope_scaling.kind != RopeType::Dynamic)
}

#[test]
fn cached_logits_are_those_of_a_full_forward_pass() {
    for fixture in cacheable() {
        let prompt = [3, 1, 16, 4, 1, 5, 9];
        // f64 but for the rotation table and the scale, which are f32: 6e-8 of an angle up to 16.
        let (error, answer) = follow(&fixture, &mut cpu::<f64>(&fixture, OPTIONS), &prompt, 6);
        assert!(error < 2e-6, "{}: {error:e}", fixture.name);
        for (i, token) in answer.iter().enumerate() {
            let logits = judged(&fixture, &[&prompt[..], &answer[..i]].concat());
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            assert_eq!(*token as usize, best, "{}: token {i}", fixture.name);
        }
        let (error, same) = follow(&fixture, &mut cpu::<f32>(&fixture, OPTIONS), &prompt, 6);
        assert!(error < 1e-5, "{}: in f32 {error:e}", fixture.name);
        assert_eq!(same, answer, "{}", fixture.name);
    }
}

/// Positions of several tiles of keys, of both parts that the capacity makes.
fn long() -> Fixture {
    Fixture::new("long", ModelConfig { max_position_embeddings: 256, ..models::tiny() }, models::NO_LIMIT)
}

#[test]
fn long_sequences_attend_to_every_tile_of_their_keys() {
    let fixture = long();
    let options = GeneratorOptions { capacity: 200, chunk: 64, ..OPTIONS };
    let prompt = hadal::kernels::case::indices(3, 150, 17);
    let (error, _) = follow(&fixture, &mut cpu::<f32>(&fixture, options), &prompt, 30);
    assert!(error < 1e-5, "{error:e}");
}

/// Rotation that stretches with the length is plain in sequences within the model's positions, the last of them too.
#[test]
fn positions_that_stretch_with_the_length_stay_as_they_are_within_the_models_own() {
    let known = fixtures().into_iter().find(|fixture| fixture.config.rope_scaling.kind == RopeType::Dynamic).unwrap();
    for capacity in [13, 16] {
        let config = ModelConfig { max_position_embeddings: 16, ..known.config.clone() };
        let fixture = Fixture::new("dynamic", config, models::NO_LIMIT);
        let options = GeneratorOptions { capacity, ..OPTIONS };
        let (error, _) = follow(&fixture, &mut cpu::<f64>(&fixture, options), &[3, 1, 16, 4, 1, 5, 9], 9);
        assert!(error < 2e-6, "{capacity}: {error:e}");
    }
}

/// A fixture whose logits overflow, or are no numbers, for one token of the vocabulary.
fn endless(weight: f64) -> Fixture {
    let mut fixture = long();
    let width = fixture.config.hidden_size;
    let head = fixture.params.get_mut("lm_head.weight").unwrap();
    head[3 * width..4 * width].fill(weight);
    fixture
}

fn refuses_to_draw(generator: &mut Generator) {
    for sampling in
        [Sampling::greedy(), Sampling { temperature: 0.7, repetition_penalty: 1e300, ..Sampling::default() }]
    {
        let reason = generator.generate(&[request(&[3, 1], 4, sampling)]).unwrap_err();
        assert!(reason.exit_code() == 7 && reason.to_string().contains("logits are not finite"), "{reason}");
        assert!(generator.is_idle());
    }
}

#[test]
fn logits_that_are_not_finite_draw_nothing_and_are_said() {
    // The sums overflow to both sides, or hold a number that is none.
    for weight in [3e38, -3e38, f64::NAN] {
        refuses_to_draw(&mut cpu::<f32>(&endless(weight), OPTIONS));
    }
    // A penalty alone makes nothing infinite.
    let mut sound = cpu::<f32>(&long(), OPTIONS);
    let hard = Sampling { repetition_penalty: 1e300, ..Sampling::default() };
    assert_eq!(sound.generate(&[request(&[3, 1], 4, hard)]).unwrap()[0].tokens.len(), 4);
}

#[test]
fn an_adapter_refuses_to_draw_from_such_logits_too() {
    let Some(gpu) = common::gpu() else { return };
    for weight in [3e38, -3e38, f64::NAN] {
        let fixture = endless(weight);
        let decoder = decoder(&fixture, OPTIONS);
        let executor = GpuExecutor::new(gpu.clone(), &decoder.tensors, &decoder.recordings, &Allowed::portable());
        let mut generator = Generator::on(decoder, Box::new(executor.unwrap()));
        load(&fixture, &mut generator);
        refuses_to_draw(&mut generator);
    }
}

#[test]
fn draws_follow_from_seed_prompt_and_number_whatever_else_is_asked_for() {
    let sampling = Sampling { seed: 5, ..Sampling::default() };
    let all = |prompts: &[&[u32]], choices| {
        let prompts: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.to_vec()).collect();
        let requests = Request::all(&prompts, choices, (4, &[9]), &sampling);
        requests.into_iter().map(|request| request.sampling.seed).collect::<Vec<u64>>()
    };
    let [first, second, third] = all(&[&[1, 2]], 3)[..] else { panic!("three") };
    assert_eq!(all(&[&[7], &[1, 2], &[1, 2]], 1)[1..], [first, second], "equal prompts are one with more choices");
    assert_eq!(all(&[&[1, 2], &[7], &[1, 2]], 1), [first, all(&[&[7]], 1)[0], second]);
    let others = [5u64, 6, 7].map(|seed| Sampling { seed, ..sampling.clone() }.of_sequence(&[1, 2], 0).seed);
    let apart: std::collections::HashSet<u64> = [first, second, third].into_iter().chain(others).collect();
    assert_eq!((apart.len(), others[0]), (5, first), "choices of a seed are not those of the next seeds");
}

#[test]
fn a_spoilt_cache_would_be_seen() {
    let mut fixture = long();
    let mut generator = cpu::<f32>(&fixture, OPTIONS);
    let weight = fixture.params.get_mut("model.layers.1.self_attn.kv_b_proj.weight").unwrap();
    weight[3] += 1e-2; // the judge has another up-projection than the generator
    let (error, _) = follow(&fixture, &mut generator, &[3, 1, 4], 3);
    assert!(error > 1e-5, "{error:e}");
}

/// Ragged prompts, each with its own settings.
fn ragged() -> Vec<Request> {
    let sampled =
        |seed| Sampling { temperature: 1.3, top_k: 9, top_p: 0.9, min_p: 0.02, seed, repetition_penalty: 1.2 };
    vec![
        request(&[3, 1, 16, 4, 1, 5, 9], 7, Sampling::greedy()),
        request(&[2], 12, sampled(5)),
        request(&[7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7], 9, sampled(6)), // the room ends before what is asked for
        request(&[0, 16], 0, sampled(7)),
        request(&[2], 12, sampled(8)),
        Request { stop: (0..9).collect(), ..request(&[5, 6], 14, sampled(9)) },
        request(&[11, 12, 13], 13, sampled(10)),
    ]
}

#[test]
fn nobody_else_in_the_batch_changes_what_a_sequence_gets() {
    for fixture in [long(), cacheable().nth(9).unwrap()] {
        let together = cpu::<f32>(&fixture, OPTIONS).generate(&ragged()).unwrap();
        let wide = GeneratorOptions { slots: 9, chunk: 40, ..OPTIONS };
        assert_eq!(cpu::<f32>(&fixture, wide).generate(&ragged()).unwrap(), together, "{}", fixture.name);
        let one = GeneratorOptions { slots: 1, ..OPTIONS };
        let mut alone = cpu::<f32>(&fixture, one);
        for (request, expected) in ragged().iter().zip(&together) {
            assert_eq!(alone.generate(std::slice::from_ref(request)).unwrap()[0], *expected, "{}", fixture.name);
        }
        check_ends(&together);
        assert_ne!(together[1].tokens, together[4].tokens, "of two seeds");
    }
}

fn check_ends(completions: &[Completion]) {
    let lengths: Vec<usize> = completions.iter().map(|c| c.tokens.len()).collect();
    assert_eq!(
        [lengths[0], lengths[1], lengths[2], lengths[3]],
        [7, 12, 4, 0],
        "as asked for, or as there is room for"
    );
    assert!(completions[..5].iter().all(|c| c.finish == Finish::Length));
    let stopped = matches!(completions[5].finish, Finish::Stop(token) if token < 9);
    assert!(stopped && completions[5].tokens.iter().all(|&t| t >= 9), "{completions:?}");
}

#[test]
fn an_adapter_generates_what_the_cpu_does() {
    let Some(gpu) = common::gpu() else { return };
    for fixture in [long(), cacheable().nth(9).unwrap()] {
        let decoder = decoder(&fixture, OPTIONS);
        let executor = GpuExecutor::new(gpu.clone(), &decoder.tensors, &decoder.recordings, &Allowed::portable());
        let mut generator = Generator::on(decoder, Box::new(executor.unwrap()));
        load(&fixture, &mut generator);
        let expected = cpu::<f32>(&fixture, OPTIONS).generate(&ragged()).unwrap();
        assert_eq!(generator.generate(&ragged()).unwrap(), expected, "{}", fixture.name);
    }
}

#[test]
fn requests_come_and_go() {
    let fixture = long();
    let mut generator = cpu::<f32>(&fixture, OPTIONS);
    let greedy = |prompt: &[u32]| request(prompt, 5, Sampling::greedy());
    let numbers: Vec<u64> = [&[1u32, 2][..], &[3], &[4], &[5], &[6]]
        .iter()
        .map(|prompt| generator.submit(greedy(prompt)).unwrap())
        .collect();
    let mut events = generator.advance().unwrap();
    assert_eq!(generator.waiting(), 2, "three have slots");
    generator.cancel(numbers[1]); // one under way, one that waits
    generator.cancel(numbers[4]);
    while !generator.is_idle() {
        events.extend(generator.advance().unwrap());
    }
    let tokens = |number| events.iter().filter(|e| e.number() == number && matches!(e, Event::Token { .. })).count();
    let counts: Vec<usize> = numbers.iter().map(|&number| tokens(number)).collect();
    assert!(counts[0] == 5 && counts[2] == 5 && counts[3] == 5 && counts[1] < 5 && counts[4] == 0, "{counts:?}");
    for (prompt, reason) in [(vec![], "0 tokens"), (vec![0; 16], "16 tokens"), (vec![17], "token 17")] {
        let error = generator.submit(greedy(&prompt)).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let beyond = GeneratorOptions { capacity: 300, ..OPTIONS };
    let device = hadal::backend::Device::Cpu { note: String::new() };
    let error = Generator::new(&fixture.config, beyond, &device).err().unwrap().to_string();
    assert!(error.contains("256 positions"), "{error}");
}
