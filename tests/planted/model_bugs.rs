//! Bugs planted in a whole micro-step, or in what the host feeds it, for the independent judge to report.

use super::model::{Judge, Model, config};
use hadal::kernels::matmul::{self, ADD_TO_RESIDUAL, NT, OVERWRITE};
use hadal::kernels::{balance_loss, cross_entropy, rope, router, router_backward};

type Patch = fn(&mut Model);

const BUGS: &[(&str, Patch)] = &[
    ("mean of means: weights 1 / (k n_i)", |m| {
        let passes = m.batches.len();
        for batch in &mut m.batches {
            batch.set_weight(passes * batch.counted());
        }
    }),
    ("ignored targets get a weight and a class", |m| {
        let batch = &mut m.batches[1];
        batch.targets[0] = 3;
        batch.loss_weights[0] = batch.loss_weights[11];
    }),
    ("balance loss scaled by k", |m| m.inverse_sequences *= m.batches.len() as f32),
    ("balance loss of padding", |m| m.batches[0].real.fill(1)),
    ("balance loss dropped in one layer", |m| {
        let mut p = m.micro_step();
        let at = p.step("router_backward", "d_probs", 1, 2);
        p.edit(at, |params: &mut router_backward::Params| params.has_d_probs = 0);
    }),
    ("balance loss counts one expert of K", |m| {
        let mut p = m.micro_step();
        let at = p.step("balance_loss", "router_probs", 0, 2);
        p.edit(at, |params: &mut balance_loss::Params| params.selected = 1);
    }),
    ("router's gradient not joined", |m| {
        let mut p = m.micro_step();
        let at = p.step("matmul", "model.layers.2.mlp.gate.weight", 1, 2);
        p.drop(at);
    }),
    ("router's gradient overwrites what it joins", |m| {
        let mut p = m.micro_step();
        let at = p.step("matmul", "model.layers.2.mlp.gate.weight", 1, 2);
        p.edit(at, |params: &mut matmul::Params| params.accumulate = OVERWRITE);
    }),
    ("no gradient of the router's matrix", |m| {
        let mut p = m.micro_step();
        p.drop(p.only("matmul", "grad.model.layers.1.mlp.gate.weight"));
    }),
    ("router's scaling dropped in backward", |m| {
        let mut p = m.micro_step();
        let at = p.step("router_backward", "d_logits", 0, 2);
        p.edit(at, |params: &mut router_backward::Params| params.scale = 1.0);
    }),
    ("router normalises in forward alone", |m| {
        let mut p = m.micro_step();
        let at = p.step("router", "router_weights", 0, 2);
        p.edit(at, |params: &mut router::Params| params.normalise = 1);
    }),
    ("experts' path not joined", |m| {
        let mut p = m.micro_step();
        p.keep_one_path(p.step("add", "d_joined", 0, 8), "a");
    }),
    ("shared experts' path not joined", |m| {
        let mut p = m.micro_step();
        p.keep_one_path(p.step("add", "d_joined", 0, 8), "b");
    }),
    ("residual gradient of a block dropped", |m| {
        let mut p = m.micro_step();
        p.keep_one_path(p.step("add", "d_joined", 1, 8), "b");
    }),
    ("a block passes on its residual gradient alone", |m| {
        let mut p = m.micro_step();
        p.keep_one_path(p.step("add", "d_joined", 7, 8), "a");
    }),
    ("residual from the wrong tensor", |m| {
        let mut p = m.micro_step();
        let at = p.step("matmul", "model.layers.0.mlp.down_proj.weight", 0, 2);
        p.bind(at, "residual", p.bound(p.only("embed", "ids"), "y"));
    }),
    ("residual dropped", |m| {
        let mut p = m.micro_step();
        let at = p.step("matmul", "model.layers.1.self_attn.o_proj.weight", 0, 2);
        p.edit(at, |params: &mut matmul::Params| {
            assert_eq!(params.accumulate, ADD_TO_RESIDUAL);
            params.accumulate = OVERWRITE;
        });
    }),
    ("wrong transpose of the output projection", |m| {
        let mut p = m.micro_step();
        let at = p.step("matmul", "model.layers.1.self_attn.o_proj.weight", 1, 2);
        p.edit(at, |params: &mut matmul::Params| params.form = NT);
    }),
    ("rotation's sign in backward, keys alone", |m| {
        let mut p = m.micro_step();
        let at = p.step("rope", "d_k_rope", 0, 3);
        p.edit(at, |params: &mut rope::Params| params.direction = 1.0);
    }),
    ("rotation's sign in both directions, queries alone", |m| {
        let mut p = m.micro_step();
        let (forward, back) = (p.step("rope", "rotated", 0, 6), p.step("rope", "d_q", 2, 3));
        p.edit(forward, |params: &mut rope::Params| params.direction = -1.0);
        p.edit(back, |params: &mut rope::Params| params.direction = 1.0);
    }),
    ("positions shifted in one sequence", |m| m.batches[0].positions[3] = 0),
    ("a sequence's tokens see one key less", |m| {
        let length = m.batches[0].length;
        m.batches[0].document_start[5..length].fill(1);
    }),
    ("attention's D of another layer", |m| {
        let mut p = m.micro_step();
        let (last, next) = (p.step("attention_delta", "row_stats", 0, 3), p.step("attention_delta", "row_stats", 1, 3));
        let out = p.bound(last, "out");
        p.bind(next, "out", out);
    }),
    ("expert weight gradient by the offsets of another layer", |m| {
        let mut p = m.micro_step();
        let at = p.only("matmul_experts_weight_grad", "grad.model.layers.1.mlp.experts.up_proj.weight");
        let other = p.only("matmul_experts_weight_grad", "grad.model.layers.2.mlp.experts.up_proj.weight");
        p.bind(at, "offsets", p.bound(other, "offsets"));
    }),
    ("expert weight gradient of gate in place of up", |m| {
        let mut p = m.micro_step();
        let name = |part: &str| format!("grad.model.layers.2.mlp.experts.{part}_proj.weight");
        let (up, gate) = (name("up"), name("gate"));
        let (up, gate) = (p.only("matmul_experts_weight_grad", &up), p.only("matmul_experts_weight_grad", &gate));
        p.bind(up, "a", p.bound(gate, "a"));
    }),
    ("input gradient of gate through the weights of up", |m| {
        let mut p = m.micro_step();
        let gate = p.step("matmul_experts", "model.layers.1.mlp.experts.gate_proj.weight", 1, 2);
        let up = p.step("matmul_experts", "model.layers.1.mlp.experts.up_proj.weight", 1, 2);
        p.bind(gate, "b", p.bound(up, "b"));
    }),
    ("head's weight gradient overwrites the micro-batch before", |m| {
        let mut p = m.micro_step();
        let at = p.only("matmul", "grad.lm_head.weight");
        p.edit(at, |params: &mut matmul::Params| params.accumulate = OVERWRITE);
    }),
    ("logits in place of their gradient", |m| {
        let mut p = m.micro_step();
        let at = p.only("cross_entropy", "logits");
        p.edit(at, |params: &mut cross_entropy::Params| params.gradient = 0);
    }),
    ("no gradient of a latent norm's weight", |m| {
        let mut p = m.micro_step();
        let name = "grad.model.layers.1.self_attn.kv_a_layernorm.weight";
        p.drop(p.only("rms_norm_weight_grad", name));
    }),
];

/// The same for a head that shares the embedding's matrix.
const TIED_BUGS: &[(&str, Patch)] = &[
    ("tied head: its gradient missing", |m| {
        let mut p = m.micro_step();
        p.drop(p.only("matmul", "grad.model.embed_tokens.weight"));
    }),
    ("tied head: its gradient overwrites", |m| {
        let mut p = m.micro_step();
        let at = p.only("matmul", "grad.model.embed_tokens.weight");
        p.edit(at, |params: &mut matmul::Params| params.accumulate = OVERWRITE);
    }),
    ("tied head: the embedding's gradient missing", |m| {
        let mut p = m.micro_step();
        p.drop(p.only("embed_backward", "grad.model.embed_tokens.weight"));
    }),
];

/// Runs a micro-step on batches after `change`, which breaks what a kernel takes for granted of its integers.
pub fn breach(change: fn(&mut Model)) {
    let config = config(false);
    let mut model = Model::new(&config);
    change(&mut model);
    model.run(&super::model::values(&config));
}

/// Plants every bug in turn.
pub fn outcomes() -> Vec<(String, Result<String, String>)> {
    let mut rows = Vec::new();
    for (tied, bugs) in [(false, BUGS), (true, TIED_BUGS)] {
        let config = config(tied);
        let sound = Model::new(&config);
        let judge = Judge::new(&sound);
        let share = judge.verdict(&sound).unwrap_or_else(|e| panic!("reported without a bug: {e}"));
        println!("without a bug, tied {tied}: {share:.3} of the allowed error");
        for (what, patch) in bugs {
            let mut model = Model::new(&config);
            patch(&mut model);
            let outcome = judge.verdict(&model).err().ok_or_else(|| "no derivative is off".to_owned());
            rows.push(((*what).to_owned(), outcome));
        }
    }
    rows
}
