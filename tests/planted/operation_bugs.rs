//! Bugs planted in the backward steps of single operations, for central differences to report.

use super::differences::{executor, judge};
use super::ops::programs;
use super::recording::Patient;
use hadal::graph::Executor;
use hadal::kernels::matmul::{self, OVERWRITE};
use hadal::kernels::{
    attention, copy_columns, cross_entropy, dropout, embed_backward, expert_gather_backward, log_probs, matmul_experts,
    matmul_experts_weight_grad, rms_norm_backward, rope, router_backward, scale, sum_heads,
};

type Patch = fn(&mut Patient<'_>);

/// What is wrong, in which of the programs, and how it gets there.
const BUGS: &[(&str, &str, Patch)] = &[
    ("upstream gradient replaced by the output", "rms_norm", |p| {
        let (norm, back) = (p.only("rms_norm", "w"), p.only("rms_norm_backward", "w"));
        p.bind(back, "d_y", p.bound(norm, "y"));
    }),
    ("norm weight gradient left out", "rms_norm", |p| p.drop(p.only("rms_norm_weight_grad", "grad.w"))),
    ("norm backward misses the last row", "rms_norm", |p| {
        let at = p.only("rms_norm_backward", "w");
        p.edit(at, |params: &mut rms_norm_backward::Params| params.rows -= 1);
    }),
    ("second path of a doubled input dropped", "rms_norm", |p| p.keep_one_path(p.step("add", "d_joined", 1, 2), "a")),
    ("weight gradient of a second use overwrites the first", "linear in parts of 6", |p| {
        let at = p.step("matmul", "grad.w[0..]", 1, 2);
        p.edit(at, |params: &mut matmul::Params| params.accumulate = OVERWRITE);
    }),
    ("input gradient of a second use overwrites the first", "linear in parts of 6", |p| {
        let at = p.step("matmul", "d_x", 1, 2);
        p.edit(at, |params: &mut matmul::Params| params.accumulate = OVERWRITE);
    }),
    ("an adapter's gradients without its factor", "linear with an adapter", |p| {
        let at = p.step("scale", "d_x", 0, 2);
        p.edit(at, |params: &mut scale::Params| params.factor = 1.0);
    }),
    ("input gradient of a weight's first part alone", "linear in parts of 4", |p| {
        p.drop(p.step("matmul", "d_x", 3, 4))
    }),
    ("a part's columns of the upstream gradient off by one", "linear in parts of 4", |p| {
        let at = p.step("matmul", "grad.w[4..]", 0, 2);
        p.edit(at, |params: &mut matmul::Params| params.a_offset -= 1);
    }),
    ("a part's offset dropped in the input gradient", "linear in parts of 4", |p| {
        let at = p.step("matmul", "d_x", 1, 4);
        p.edit(at, |params: &mut matmul::Params| params.a_offset = 0);
    }),
    ("a product one term short", "linear in parts of 6", |p| {
        let at = p.step("matmul", "grad.w[0..]", 0, 2);
        p.edit(at, |params: &mut matmul::Params| params.k -= 1);
    }),
    ("wrong transpose of the weight", "linear in parts of 6", |p| {
        let at = p.step("matmul", "d_x", 0, 2);
        p.edit(at, |params: &mut matmul::Params| (params.form, params.ldb) = (matmul::NT, params.k));
    }),
    ("residual gradient from the wrong product", "linear in parts of 6", |p| {
        let (product, residual) = (p.step("matmul", "d_x", 1, 2), p.step("add", "d_joined", 2, 4));
        p.bind(residual, "a", p.bound(product, "a"));
    }),
    ("split halves swapped", "rope and split", |p| {
        let (left, right) = (p.step("copy_columns", "d_x", 0, 2), p.step("copy_columns", "d_x", 1, 2));
        p.edit(left, |params: &mut copy_columns::Params| params.target_offset = 9);
        p.edit(right, |params: &mut copy_columns::Params| params.target_offset = 0);
    }),
    ("right half of a split dropped", "rope and split", |p| p.drop(p.step("copy_columns", "d_x", 1, 2))),
    ("rotation's sign in backward", "rope and split", |p| {
        let at = p.only("rope", "d_x");
        p.edit(at, |params: &mut rope::Params| params.direction = 1.0);
    }),
    ("rotated columns off by one pair", "rope and split", |p| {
        let at = p.only("rope", "d_x");
        p.edit(at, |params: &mut rope::Params| params.offset = 0);
    }),
    ("attention's D of the wrong factors", "attention, dropout 0", |p| {
        let at = p.only("attention_delta", "row_stats");
        p.bind(at, "out", p.bound(at, "d_out"));
    }),
    ("d_q without the scale", "attention, dropout 0", |p| {
        let at = p.only("attention_backward_q", "d_q");
        p.edit(at, |params: &mut attention::Params| params.scale = 1.0);
    }),
    ("d_k_rope of one head only", "attention, dropout 0", |p| {
        let at = p.only("sum_heads", "d_k_rope");
        p.edit(at, |params: &mut sum_heads::Params| (params.heads, params.stride) = (1, 2 * params.stride));
    }),
    ("d_k_rope from columns of the value", "attention, dropout 0", |p| {
        let at = p.only("sum_heads", "d_k_rope");
        p.edit(at, |params: &mut sum_heads::Params| params.offset -= params.width);
    }),
    ("d_kv off by a column", "attention, dropout 0", |p| {
        let at = p.only("copy_columns", "d_kv");
        p.edit(at, |params: &mut copy_columns::Params| params.source_offset = 1);
    }),
    ("d_v and d_k without dropout", "attention, dropout 0.3", |p| {
        let at = p.only("attention_backward_kv", "d_heads");
        p.edit(at, |params: &mut attention::Params| params.dropout = 0.0);
    }),
    ("d_q with another site's mask", "attention, dropout 0.3", |p| {
        let at = p.only("attention_backward_q", "d_q");
        p.edit(at, |params: &mut attention::Params| params.site += 1);
    }),
    ("gate and up swapped", "swiglu", |p| p.swap(p.only("swiglu_backward", "d_up"), "gate", "up")),
    ("their gradients swapped", "swiglu", |p| p.swap(p.only("swiglu_backward", "d_up"), "d_gate", "d_up")),
    ("dropout's mask of another site", "dropout", |p| {
        let at = p.only("dropout", "d_x");
        p.edit(at, |params: &mut dropout::Params| params.site += 1);
    }),
    ("dropout without its rate", "dropout", |p| {
        let at = p.only("dropout", "d_x");
        p.edit(at, |params: &mut dropout::Params| params.rate = 0.0);
    }),
    ("a part of the table counts from 0", "embed in parts of 3", |p| {
        let at = p.only("embed_backward", "grad.table[3..]");
        p.edit(at, |params: &mut embed_backward::Params| params.first_row = 0);
    }),
    ("a part of the table left out", "embed in parts of 3", |p| {
        p.drop(p.only("embed_backward", "grad.table[6..]"));
    }),
    ("gather backward by pair of slot", "experts, greedy", |p| {
        let (at, combine) = (p.only("expert_gather_backward", "pair_slot"), p.only("expert_combine_backward", "d_o"));
        p.bind(at, "pair_slot", p.bound(combine, "slot_pair"));
    }),
    ("gather backward misses the last of K", "experts, greedy", |p| {
        let at = p.only("expert_gather_backward", "pair_slot");
        p.edit(at, |params: &mut expert_gather_backward::Params| params.selected -= 1);
    }),
    ("combine's weights by slot of pair", "experts, greedy", |p| {
        let (at, gather) = (p.only("expert_combine_backward", "d_o"), p.only("expert_gather_backward", "pair_slot"));
        p.bind(at, "slot_pair", p.bound(gather, "pair_slot"));
    }),
    ("router given the weights for their gradient", "experts, greedy", |p| {
        let (at, combine) = (p.only("router_backward", "d_logits"), p.only("expert_combine_backward", "d_o"));
        p.bind(at, "d_weights", p.bound(combine, "weights"));
    }),
    ("gradient of the probabilities dropped", "experts, greedy", |p| {
        let at = p.only("router_backward", "d_logits");
        p.edit(at, |params: &mut router_backward::Params| params.has_d_probs = 0);
    }),
    ("routed scaling dropped", "experts, grouped", |p| {
        let at = p.only("router_backward", "d_logits");
        p.edit(at, |params: &mut router_backward::Params| params.scale = 1.0);
    }),
    ("normalisation dropped", "experts, normalised, in parts", |p| {
        let at = p.only("router_backward", "d_logits");
        p.edit(at, |params: &mut router_backward::Params| params.normalise = 0);
    }),
    ("weight gradient of the neighbour's rows", "experts, normalised, in parts", |p| {
        let at = p.only("matmul_experts_weight_grad", "grad.down[4..]");
        p.edit(at, |params: &mut matmul_experts_weight_grad::Params| params.first_expert -= 1);
    }),
    ("input gradient misses the last expert", "experts, normalised, in parts", |p| {
        let at = p.step("matmul_experts", "d_x", 2, 4);
        p.edit(at, |params: &mut matmul_experts::Params| params.expert_count -= 1);
    }),
    ("wrong transpose of the experts' weights", "experts, greedy", |p| {
        let at = p.step("matmul_experts", "d_x", 0, 2);
        p.edit(at, |params: &mut matmul_experts::Params| params.form = matmul::NT);
    }),
    ("balance loss dropped", "balance_loss", |p| {
        let at = p.only("router_backward", "d_logits");
        p.edit(at, |params: &mut router_backward::Params| params.has_d_probs = 0);
    }),
    ("later chunks take the first chunk's hidden states", "head_loss in parts of 4", |p| {
        let at = p.step("matmul", "grad.w[4..]", 2, 4);
        p.edit(at, |params: &mut matmul::Params| params.b_offset = 0);
    }),
    ("a later part of the head overwrites d_h", "head_loss in parts of 4", |p| {
        let at = p.step("matmul", "d_hidden", 1, 12);
        p.edit(at, |params: &mut matmul::Params| params.accumulate = OVERWRITE);
    }),
    ("weight gradients of a chunk overwrite", "head_loss in parts of 4", |p| {
        let at = p.step("matmul", "grad.w[0..]", 3, 4);
        p.edit(at, |params: &mut matmul::Params| params.accumulate = OVERWRITE);
    }),
    ("the host's loss weights in place of the goal's", "preference in parts of 11", |p| {
        let (at, loss) = (p.only("preference_loss", "loss_weights"), p.only("cross_entropy", "losses"));
        p.bind(at, "loss_weights", p.bound(loss, "losses"));
    }),
    ("log-probabilities of a later chunk in the first one's place", "preference in parts of 4", |p| {
        let at = p.step("log_probs", "log_probs", 1, 9);
        p.edit(at, |params: &mut log_probs::Params| params.first_row = 0);
    }),
    ("the second sweep takes the first one's last logits", "preference in parts of 4", |p| {
        let at = p.step("cross_entropy", "logits", 0, 9);
        (1..4).for_each(|part| p.drop(at - part));
    }),
    ("log-probabilities without the adapter", "policy with an adapter in parts of 4, beta 0.25", |p| {
        p.drop(p.step("matmul", "b[0..]", 0, 21))
    }),
    ("the second sweep without the adapter", "policy with an adapter in parts of 4, beta 0.25", |p| {
        p.drop(p.step("matmul", "b[0..]", 7, 21))
    }),
    ("a temperature's way back without it", "policy with an adapter in parts of 4, beta 0.25", |p| {
        let at = p.step("scale", "d_x", 1, 2);
        p.edit(at, |params: &mut scale::Params| params.factor = 1.0);
    }),
    ("factors in place of entropies", "policy with an adapter in parts of 4, beta 0, entropy 0.5", |p| {
        let at = p.step("cross_entropy", "logits", 3, 7);
        p.bind(at, "entropies", p.bound(at, "factors"));
    }),
    ("no gradient of the bonus on entropy", "policy in parts of 11, beta 0, entropy 0.5", |p| {
        let at = p.only("cross_entropy", "logits");
        p.edit(at, |params: &mut cross_entropy::Params| params.entropy_bonus = 0.0);
    }),
    ("the value's gradient overwrites the policy's", "value and policy", |p| {
        let at = p.step("matmul", "d_scores", 1, 2);
        p.edit(at, |params: &mut matmul::Params| params.accumulate = OVERWRITE);
    }),
    ("the policy's gradient is lost beside the value's", "policy and value", |p| {
        p.keep_one_path(p.step("add", "d_joined", 0, 2), "a");
    }),
    ("values in place of their gradient", "value and policy", |p| {
        let (at, loss) = (p.step("matmul", "d_scores", 0, 2), p.only("value_loss", "d_scores"));
        p.bind(at, "a", p.bound(loss, "values"));
    }),
    ("rewards in place of their gradient", "reward", |p| {
        let (at, loss) = (p.step("matmul", "d_scores", 1, 2), p.only("pair_loss", "d_scores"));
        p.bind(at, "a", p.bound(loss, "scores"));
    }),
    ("logits in place of their gradient", "head_loss in parts of 11", |p| {
        let at = p.only("cross_entropy", "logits");
        p.edit(at, |params: &mut cross_entropy::Params| params.gradient = 0);
    }),
];

/// Plants every bug in turn.
pub fn outcomes() -> Vec<(String, Result<String, String>)> {
    let plant = |&(what, name, patch): &(&str, &str, Patch)| {
        let mut program = programs().into_iter().find(|p| p.name == name).unwrap_or_else(|| panic!("no {name}"));
        let verdict = |program: &_| {
            let mut cpu = executor(program);
            cpu.run(0).expect("the CPU runs");
            judge(program, &mut cpu)
        };
        verdict(&program).unwrap_or_else(|e| panic!("{what}: reported without the bug: {e}"));
        patch(&mut Patient { tensors: &program.tensors, recording: &mut program.recording });
        let outcome = verdict(&program).err().ok_or_else(|| "no gradient is off".to_owned());
        (format!("{name}: {what}"), outcome)
    };
    BUGS.iter().map(plant).collect()
}
