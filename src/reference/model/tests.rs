//! What the judge must satisfy whatever the weights are.

use super::*;
use crate::config::model::{RouterWeights, ScoringFunc, TopkMethod};
use crate::model::params::{Init, initial, parameters};

fn tiny() -> ModelConfig {
    ModelConfig {
        vocab_size: 17,
        hidden_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        kv_lora_rank: 8,
        qk_nope_head_dim: 4,
        qk_rope_head_dim: 4,
        v_head_dim: 4,
        intermediate_size: 24,
        moe_intermediate_size: 8,
        n_routed_experts: 4,
        initializer_range: 0.3,
        aux_loss_alpha: 0.5,
        ..ModelConfig::default()
    }
}

/// Start values, with norms that are not all ones.
fn params(c: &ModelConfig) -> Params<f64> {
    let draw = |mut spec: crate::model::params::ParamSpec| {
        let norm = spec.init == Init::Ones;
        spec.init = Init::Normal(c.initializer_range);
        let values = initial(&spec, 5).into_iter().map(|x| f64::from(x) + if norm { 1.0 } else { 0.0 }).collect();
        (spec.name, values)
    };
    parameters(c).into_iter().map(draw).collect()
}

fn some_ids(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * i * 7 + 3 * i + 1) % 17).collect()
}

/// Every kind of routing, query and embedding.
fn variants() -> Vec<ModelConfig> {
    let grouped = ModelConfig { topk_method: TopkMethod::GroupLimitedGreedy, n_group: 2, topk_group: 1, ..tiny() };
    let normalised = |router_weights| ModelConfig { norm_topk_prob: true, router_weights, ..tiny() };
    let sigmoid = ModelConfig { scoring_func: ScoringFunc::Sigmoid, ..tiny() };
    vec![
        ModelConfig { topk_method: TopkMethod::NoauxTc, n_group: 2, topk_group: 1, ..sigmoid.clone() },
        sigmoid,
        tiny(),
        ModelConfig { q_lora_rank: Some(6), tie_word_embeddings: true, ..tiny() },
        ModelConfig { routed_scaling_factor: 1.7, ..grouped },
        ModelConfig { n_shared_experts: 0, first_k_dense_replace: 0, ..tiny() },
        ModelConfig { n_shared_experts: 2, ..normalised(RouterWeights::Deepseek) },
        normalised(RouterWeights::Seed),
        normalised(RouterWeights::NormScale),
    ]
}

fn close(a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= tolerance, "{worst:e}");
}

#[test]
fn a_head_of_zeros_gives_the_logarithm_of_the_vocabulary() {
    let c = tiny();
    let mut p = params(&c);
    p.insert("lm_head.weight".to_owned(), vec![0.0; 17 * 16]);
    let (ids, targets) = (some_ids(10), some_ids(11)[1..].to_vec());
    let targets = Targets { targets: &targets, weights: &[0.1; 10], sequences: 2 };
    let found = loss(&c, &p, &Batch::of(&ids, 2, 5), &targets);
    assert!((found.main - 17f64.ln()).abs() < 1e-14);
}

#[test]
fn later_tokens_never_change_earlier_logits() {
    for c in variants() {
        let p = params(&c);
        let mut ids = some_ids(8);
        let before = logits(&c, &p, &Batch::of(&ids, 1, 8));
        ids[5] = (ids[5] + 1) % 17;
        let after = logits(&c, &p, &Batch::of(&ids, 1, 8));
        assert_eq!(before[..5 * 17], after[..5 * 17]);
        assert_ne!(before[5 * 17..], after[5 * 17..]);
    }
}

#[test]
fn packed_documents_give_the_logits_and_the_loss_of_separate_ones() {
    for c in variants() {
        let p = params(&c);
        let (ids, targets) = (some_ids(9), some_ids(10)[1..].to_vec());
        let whole = |ids: &[u32], starts: Option<&[u32]>, targets: &[u32]| {
            let batch = Batch { document_start: starts, ..Batch::of(ids, 1, ids.len()) };
            let targets = Targets { targets, weights: &vec![1.0 / 9.0; ids.len()], sequences: 2 };
            (logits(&c, &p, &batch), loss(&c, &p, &batch, &targets))
        };
        let (together, sum) = whole(&ids, Some(&[0, 0, 0, 0, 4, 4, 4, 4, 4]), &targets);
        let (first, a) = whole(&ids[..4], None, &targets[..4]);
        let (second, b) = whole(&ids[4..], None, &targets[4..]);
        close(&together, &[first, second].concat(), 1e-13);
        close(&[sum.main, sum.balance], &[a.main + b.main, a.balance + b.balance], 1e-13);
    }
}

#[test]
fn padding_counts_neither_in_the_loss_nor_in_the_balance() {
    let c = tiny();
    let p = params(&c);
    let ids = some_ids(7);
    let mut targets = some_ids(8)[1..].to_vec();
    let of = |ids: &[u32], real: &[u32], targets: &[u32]| {
        let batch = Batch { real: Some(real), ..Batch::of(ids, 1, ids.len()) };
        loss(&c, &p, &batch, &Targets { targets, weights: &vec![0.2; ids.len()], sequences: 1 })
    };
    targets[5..].fill(IGNORED);
    let padded = of(&ids, &[1, 1, 1, 1, 1, 0, 0], &targets);
    let bare = of(&ids[..5], &[1; 5], &targets[..5]);
    close(&[padded.main, padded.balance], &[bare.main, bare.balance], 1e-14);
}

#[test]
fn the_balance_loss_is_alpha_where_the_router_is_indifferent() {
    let c = ModelConfig { first_k_dense_replace: 0, ..tiny() };
    let mut p = params(&c);
    for layer in 0..2 {
        p.insert(format!("model.layers.{layer}.mlp.gate.weight"), vec![0.0; 4 * 16]);
    }
    let ids = some_ids(12);
    let targets = Targets { targets: &[IGNORED; 12], weights: &[0.0; 12], sequences: 3 };
    let found = loss(&c, &p, &Batch::of(&ids, 3, 4), &targets);
    assert_eq!(found.main, 0.0);
    close(&[found.balance], &[2.0 * c.aux_loss_alpha], 1e-14);
    // Equal probabilities: the lower numbers win.
    assert!(selections(&c, &p, &Batch::of(&ids, 3, 4)).iter().flatten().all(|chosen| chosen[..] == [0, 1]));
}

#[test]
fn a_balance_of_the_batch_is_that_of_one_long_sequence_and_not_of_the_sequences() {
    let c = ModelConfig { seq_aux: false, ..tiny() };
    let p = params(&c);
    // Two documents in one row see what two rows see, so that only the counting differs.
    let (ids, starts, real) = (some_ids(10), [0, 0, 0, 0, 0, 5, 5, 5, 5, 5], [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
    let of = |c: &ModelConfig, sequences: usize, starts: Option<&[u32]>| {
        let length = 10 / sequences;
        let batch = Batch { document_start: starts, real: Some(&real), ..Batch::of(&ids, sequences, length) };
        loss(c, &p, &batch, &Targets { targets: &[IGNORED; 10], weights: &[0.0; 10], sequences }).balance
    };
    close(&[of(&c, 2, None)], &[of(&c, 1, Some(&starts))], 1e-14);
    let by_sequence = of(&ModelConfig { seq_aux: true, ..c.clone() }, 2, None);
    assert!((by_sequence - of(&c, 2, None)).abs() > 1e-3);
}

#[test]
fn renumbering_experts_changes_nothing() {
    let c = ModelConfig { first_k_dense_replace: 0, num_hidden_layers: 1, ..tiny() };
    let p = params(&c);
    let mut renumbered = p.clone();
    for name in ["gate", "experts.gate_proj", "experts.up_proj", "experts.down_proj"] {
        let values = renumbered.get_mut(&format!("model.layers.0.mlp.{name}.weight")).unwrap();
        let quarter = values.len() / 4;
        values.rotate_left(quarter);
    }
    let ids = some_ids(6);
    let batch = Batch::of(&ids, 1, 6);
    close(&logits(&c, &p, &batch), &logits(&c, &renumbered, &batch), 1e-13);
}

#[test]
fn weights_of_chosen_experts_follow_each_mode() {
    let token = |c: ModelConfig| {
        let p = params(&c);
        let ids = some_ids(4);
        network(&c, &p, &Batch::of(&ids, 1, 4)).1.remove(0).remove(3)
    };
    for c in variants() {
        let (mode, rho, scoring) = (c.router_weights, c.routed_scaling_factor, c.scoring_func);
        let routing = token(c);
        let p: Vec<f64> = routing.chosen.iter().map(|&e| routing.probabilities[e]).collect();
        let sum: f64 = p.iter().sum();
        let expected = |p: f64| if mode == RouterWeights::Hf { rho * p } else { p / sum };
        // Sigmoids do not sum to 1: what stands in their place is that their ratios are those of the weights.
        let own_sum = if scoring == ScoringFunc::Sigmoid { routing.weights[0] / (rho * p[0]) } else { 1.0 };
        close(&routing.weights, &p.iter().map(|&p| own_sum * expected(p)).collect::<Vec<_>>(), 1e-8);
        assert!((routing.probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-14);
    }
}

#[test]
fn groups_that_are_not_kept_give_no_expert() {
    let c = ModelConfig { topk_method: TopkMethod::GroupLimitedGreedy, n_group: 2, topk_group: 1, ..tiny() };
    let ids = some_ids(12);
    let all = selections(&c, &params(&c), &Batch::of(&ids, 1, 12));
    assert!(all[0].iter().all(|chosen| chosen[0] / 2 == chosen[1] / 2));
    let free = selections(&tiny(), &params(&c), &Batch::of(&ids, 1, 12));
    assert!(free[0].iter().any(|chosen| chosen[0] / 2 != chosen[1] / 2), "without groups some choices cross");
}
