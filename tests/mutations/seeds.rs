//! Sound files of every format.

use super::judge::scratch;
use hadal::checkpoint::adapters::Adapters;
use hadal::checkpoint::container::{Announced, write_container};
use hadal::checkpoint::manifest::{Listed, Manifest};
use hadal::config::Config;
use hadal::config::hf::{StoredType, write_own_config};
use hadal::config::lora::LoraConfig;
use hadal::config::model::ModelConfig;
use hadal::config::rollout::{GrpoConfig, RolloutConfig};
use hadal::config::rope::{RopeScaling, RopeType};
use hadal::kernels::state::RESULT_WORDS;
use hadal::train::checkpoint::TrainerState;
use hadal::train::rollout::{Answer, Rollout};
use hadal::train::rows::{ExpertLoad, Numbers, Row, Stamped, TrainRow, ValRow};
use safetensors::Dtype;
use serde_json::json;

/// A model of two layers with so few weights that a file of them is a page.
pub fn model() -> ModelConfig {
    ModelConfig {
        vocab_size: 8,
        hidden_size: 4,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        kv_lora_rank: 2,
        qk_nope_head_dim: 2,
        qk_rope_head_dim: 2,
        v_head_dim: 2,
        intermediate_size: 4,
        moe_intermediate_size: 2,
        n_routed_experts: 2,
        max_position_embeddings: 16,
        ..ModelConfig::default()
    }
}

/// The bytes of a file of tensors of zeros.
pub fn tensors(tensors: &[(&str, Dtype, &[usize])]) -> Vec<u8> {
    let announced: Vec<Announced> = tensors
        .iter()
        .map(|(name, dtype, shape)| Announced { name: (*name).to_owned(), dtype: *dtype, shape: shape.to_vec() })
        .collect();
    let (folder, bytes) = (scratch(), |t: &Announced| t.shape.iter().product::<usize>() * t.dtype.bitsize() / 8);
    let path = folder.path().join("a.safetensors");
    write_container(&*path, &announced, |i, out| {
        out.write_all(&vec![0; bytes(&announced[i])]).unwrap();
        Ok(())
    })
    .unwrap();
    std::fs::read(path).unwrap()
}

pub fn safetensors() -> Vec<Vec<u8>> {
    let fused = "model.layers.1.mlp.experts.gate_up_proj";
    vec![
        tensors(&[
            ("a", Dtype::F32, &[2, 3]),
            ("b", Dtype::F16, &[4]),
            ("c", Dtype::I64, &[1]),
            ("d", Dtype::BF16, &[0, 7]),
        ]),
        tensors(&[(fused, Dtype::F32, &[2, 4, 3]), ("model.layers.1.mlp.experts.down_proj", Dtype::F32, &[2, 3, 2])]),
        tensors(&[]),
    ]
}

/// Files and tensors of the folder that an index is read in.
pub const SHARDS: [(&str, &str); 2] =
    [("model-00001-of-00002.safetensors", "a"), ("model-00002-of-00002.safetensors", "b")];

pub fn index() -> Vec<Vec<u8>> {
    let [(first, a), (second, b)] = SHARDS;
    let index = json!({"metadata": {"total_size": 32}, "weight_map": {a: first, b: second}});
    vec![index.to_string().into_bytes(), json!({"weight_map": {b: second}}).to_string().into_bytes()]
}

pub fn config() -> Vec<Vec<u8>> {
    let yarn = RopeScaling {
        kind: RopeType::Yarn,
        factor: Some(4.0),
        original_max_position_embeddings: Some(128),
        ..RopeScaling::default()
    };
    let own = ModelConfig { embed_dropout: 0.1, rope_scaling: yarn, q_lora_rank: Some(3), ..model() };
    let written = |config: &ModelConfig| {
        let folder = scratch();
        write_own_config(folder.path(), config, StoredType::F32).unwrap();
        std::fs::read(folder.path().join("config.json")).unwrap()
    };
    vec![written(&model()), written(&own), written(&ModelConfig::default())]
}

pub fn tokenizer() -> Vec<Vec<u8>> {
    let added = |id: u32| {
        json!({"id": id, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true})
    };
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let split = json!({"type": "Split", "behavior": "Isolated", "invert": false,
        "pattern": {"Regex": r"\p{N}{1,3}|\s+(?!\S)|\s+"}});
    let bytes = json!({"version": "1.0", "added_tokens": [added(3)], "pre_tokenizer": level, "decoder": level,
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}});
    let plain = json!({"version": "1.0", "added_tokens": [added(6)],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u{2581}"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}, {"type": "NFKD"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, {"type": "Digits", "individual_digits": true}]},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "byte_fallback": true, "fuse_unk": true,
            "vocab": {"<unk>": 0, "\u{2581}": 1, "a": 2, "b": 3, "ab": 4, "<0x41>": 5}, "merges": [["a", "b"]]}});
    vec![bytes.to_string().into_bytes(), plain.to_string().into_bytes()]
}

pub fn tokenizer_config() -> Vec<Vec<u8>> {
    let config = json!({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "model_max_length": 512});
    let older = json!({"eos_token": {"__type": "AddedToken", "content": "</s>"}, "chat_template": "{{ messages }}"});
    vec![config.to_string().into_bytes(), older.to_string().into_bytes()]
}

pub fn jsonl() -> Vec<Vec<u8>> {
    let turns = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b\n\u{e9}"}]);
    let lines = [
        json!({"text": "one", "id": 3}),
        json!({"messages": turns}),
        json!({"prompt": "a", "completion": "b", "label": true}),
        json!({"prompt": turns, "chosen": turns, "rejected": turns}),
        json!({"instruction": "a", "input": null, "output": "b"}),
        json!({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}),
    ];
    lines.map(|line| format!("{line}\n{line}\n").into_bytes()).to_vec()
}

pub fn preference() -> Vec<Vec<u8>> {
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let [asked, yes, no] = [turn("user", "a"), turn("assistant", "b"), turn("assistant", "c\u{e9}")];
    let lines = [
        json!({"prompt": "a", "chosen": "b", "rejected": "c", "margin": 0.5}),
        json!({"chosen": "a b", "rejected": "a c"}),
        json!({"prompt": [asked], "chosen": [yes], "rejected": [no], "margin": null}),
        json!({"chosen": [asked, yes], "rejected": [asked, no]}),
        json!({"conversations": [{"from": "human", "value": "a"}], "chosen": yes, "rejected": no}),
    ];
    lines.map(|line| format!("{line}\n{line}\n").into_bytes()).to_vec()
}

pub fn question() -> Vec<Vec<u8>> {
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let asked = [turn("system", "s"), turn("user", "a")];
    let lines = [
        json!({"prompt": "a", "answer": "b"}),
        json!({"prompt": asked, "ground_truth": 1.5, "solution": "c"}),
        json!({"question": "a", "answer": "b\n#### 1,000"}),
        json!({"prompt": "a", "completion": "b"}),
        json!({"messages": [asked[0], asked[1], turn("assistant", "b")]}),
    ];
    lines.map(|line| format!("{line}\n{line}\n").into_bytes()).to_vec()
}

pub fn bin() -> Vec<Vec<u8>> {
    let ids = |n: u32| (0..n).map(|i| i * 7 % 257).collect::<Vec<u32>>();
    let header = |mark: u32, version: u32, count: u32| {
        let mut words = vec![0u32; 256];
        words[..3].copy_from_slice(&[mark, version, count]);
        words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>()
    };
    let narrow: Vec<u8> = ids(90).iter().flat_map(|&id| (id as u16).to_le_bytes()).collect();
    let wide: Vec<u8> = ids(90).iter().flat_map(|id| id.to_le_bytes()).collect();
    vec![
        narrow.clone(),
        wide.clone(),
        [header(20_240_520, 1, 90), narrow].concat(),
        [header(20_240_801, 7, 90), wide].concat(),
    ]
}

/// An `.npy` file of this type and shape, with `data` after its header.
pub fn array(dictionary: &str, version: u8, data: &[u8]) -> Vec<u8> {
    let length = dictionary.len() as u32;
    let length = if version == 1 { length.to_le_bytes()[..2].to_vec() } else { length.to_le_bytes().to_vec() };
    [&b"\x93NUMPY"[..], &[version, 0], &length, dictionary.as_bytes(), data].concat()
}

pub fn npy() -> Vec<Vec<u8>> {
    let data = |n: usize| (0..60u64).flat_map(|i| i.to_le_bytes()[..n].to_vec()).collect::<Vec<u8>>();
    vec![
        array("{'descr': '<u2', 'fortran_order': False, 'shape': (60,), }\n", 1, &data(2)),
        array("{'descr': '<i4', 'fortran_order': False, 'shape': (6, 10), }\n", 2, &data(4)),
        array("{'descr': '<u8', 'fortran_order': False, 'shape': (60,), }\n", 3, &data(8)),
    ]
}

pub fn toml() -> Vec<Vec<u8>> {
    let tiny = include_str!("../../assets/configs/tiny.toml").to_owned();
    let yarn = "preset = \"small\"\n[model]\nrope_scaling = {type = \"yarn\", factor = 4, \
        original_max_position_embeddings = 128}\nmax_position_embeddings = 512\n[data]\npath = [\"a\", \"b\"]\n";
    vec![tiny.into_bytes(), Config::default().to_toml().unwrap().into_bytes(), yarn.as_bytes().to_vec()]
}

pub fn template() -> Vec<Vec<u8>> {
    let style = "{% set ns = namespace(n=0) %}\n{% for m in messages %}\n{% if m.role == 'user' %}\n\
        {{ '<|im_start|>' ~ (m.content | trim) }}\n{% elif m['content'].strip() is defined %}\n\
        {{ m.content }}{{ '<|im_end|>' }}\n{% endif %}\n{% set ns.n = ns.n + 1 %}\n{% endfor %}\n";
    vec![hadal::tokenizer::CHATML.as_bytes().to_vec(), style.as_bytes().to_vec()]
}

pub fn sets() -> Vec<Vec<u8>> {
    [
        "train.steps=3",
        "optimizer.kind=adamw8bit",
        "model.rope_scaling={type = \"linear\", factor = 2}",
        "data.path=a.txt",
        "train.precision=f32",
    ]
    .map(|set| format!("{set}\nmodel.rms_norm_eps=1e-6").into_bytes())
    .to_vec()
}

pub fn manifest() -> Vec<Vec<u8>> {
    let listed = |name: &str| Listed { name: name.to_owned(), bytes: 3, sha256: "ba".repeat(32) };
    let text = |files| Manifest::new(5, files).unwrap().text().unwrap().into_bytes();
    vec![text(vec![listed("model.safetensors"), listed("config.json")]), text(Vec::new())]
}

pub fn state() -> Vec<Vec<u8>> {
    let result = Some([1.0; RESULT_WORDS]);
    let first = TrainerState::first(1);
    let state = TrainerState { step: 5, tokens: 640, best_val_loss: Some(2.5), result, ..first.clone() };
    let amid = TrainerState { rollout: Some(Box::new(rollout())), ..state.clone() };
    [state, first, amid].map(|state| serde_json::to_vec(&state).unwrap()).to_vec()
}

/// What the updates of drawn answers are configured as.
pub fn drawing() -> Config {
    let rollout = RolloutConfig { prompts: 2, num_generations: 1, num_iterations: 4, ..RolloutConfig::default() };
    let mut config = Config { model: model(), rollout: Some(rollout), ..Config::default() };
    config.train.sequence_length = 8;
    config.grpo = Some(GrpoConfig { beta: 0.1, ..GrpoConfig::default() });
    config
}

/// The second batch of such a run, of which the fifth update has learnt once.
fn rollout() -> Rollout {
    let answer = |tokens: &[u32]| {
        let numbers = vec![-0.5; tokens.len()];
        let (old, reference, advantages) = (numbers.clone(), numbers.clone(), numbers);
        let (prompt, tokens) = (vec![3, 1], tokens.to_vec());
        Answer { prompt, tokens, counts: true, old, reference, advantages, ..Answer::default() }
    };
    let numbers = Numbers::from([("reward".to_owned(), 0.5)]);
    Rollout { number: 1, numbers, answers: vec![answer(&[4, 7, 2]), answer(&[6])] }
}

pub fn lora() -> Vec<Vec<u8>> {
    let of = |base: &str, lora| Adapters { base: base.into(), sha256: "0".repeat(64), lora };
    let whole = LoraConfig { rank: 4, ..LoraConfig::default() };
    let explicit = of("../../base", whole.explicit(&model()));
    [explicit, of("/nowhere", whole)].map(|adapters| serde_json::to_vec(&adapters).unwrap()).to_vec()
}

pub fn metrics() -> Vec<Vec<u8>> {
    let load = ExpertLoad { layer: 1, max: 0.5, min: 0.1, entropy: 0.9 };
    let train = |step: u64| {
        let loss = 5.0 / step as f64;
        Row::Train(TrainRow {
            step,
            loss,
            lr: 1e-3,
            grad_norm: 0.5,
            tokens: 64 * step,
            expert_load: vec![load],
            ..TrainRow::default()
        })
    };
    let val =
        |step| Row::Val(ValRow { step, loss: 2.5, bits_per_byte: 1.25, token_accuracy: 0.5, ..ValRow::default() });
    let lines = |rows: &[Row]| {
        let line = |row| Stamped { row, elapsed: 1.5, wall_time: 1.75e9 };
        rows.iter().map(|row| serde_json::to_string(&line(row)).unwrap() + "\n").collect::<String>().into_bytes()
    };
    vec![lines(&[val(0), train(1), train(2), train(3), val(3)]), lines(&[train(1)])]
}

pub fn text() -> Vec<Vec<u8>> {
    let lines: String = (0..200).map(|i| format!("line {i}: \u{e9}t\u{e9} </s> <|endoftext|>\r\n")).collect();
    vec![b"Once upon a time\n".to_vec(), lines.into_bytes()]
}

pub fn request() -> Vec<Vec<u8>> {
    let chat = json!({
        "model": "m", "max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "seed": 6, "stop": ["a", "b"], "n": 2,
        "messages": [{"role": "system", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]}],
        "stream": true, "stream_options": {"include_usage": true}, "logit_bias": {}, "tools": [], "user": "me",
    });
    let completion = json!({"prompt": ["a", [6, 7]], "max_tokens": 9, "top_k": 6, "min_p": 0.1, "stop": "a"});
    [chat, completion].map(|body| body.to_string().into_bytes()).to_vec()
}
