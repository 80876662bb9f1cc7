//! Bugs planted in the recording of an update, beside AdamW written out for a whole model.

use super::model::{Model, config, values, whole};
use hadal::graph::{Executor, Tensor};
use hadal::kernels::case::uniform;
use hadal::kernels::{adamw, grad_norm, grad_norm_finish, state};
use hadal::model::moments::{Kept, Moments};
use hadal::model::program::UPDATE;
use hadal::reference::model::Params;

/// Allowed error of a parameter's change as a share of the largest: settings are kept in f32.
const TOLERANCE: f64 = 1e-6;

type Patch = fn(&mut Model);

const BUGS: &[(&str, Patch)] = &[
    ("a gradient left out of the norm", |m| {
        let mut p = m.named(UPDATE);
        p.drop(p.only("grad_norm", "grad.lm_head.weight"));
    }),
    ("two gradients share a place in the norm", |m| {
        let mut p = m.named(UPDATE);
        let at = p.only("grad_norm", "grad.lm_head.weight");
        p.edit(at, |params: &mut grad_norm::Params| params.first_partial -= 1);
    }),
    ("the norm misses the last sum", |m| {
        let mut p = m.named(UPDATE);
        let at = p.only("grad_norm_finish", "norm_partials");
        p.edit(at, |params: &mut grad_norm_finish::Params| params.partials -= 1);
    }),
    ("clip not applied", |m| {
        let mut p = m.named(UPDATE);
        let at = p.only("grad_norm_finish", "norm_partials");
        p.edit(at, |params: &mut grad_norm_finish::Params| params.clip_norm = 0.0);
    }),
    ("the norm is that of the update before", |m| {
        let mut p = m.named(UPDATE);
        p.drop(p.only("grad_norm_finish", "norm_partials"));
    }),
    ("a norm's weight decays", |m| {
        let mut p = m.named(UPDATE);
        let at = p.only("adamw", "model.norm.weight");
        p.edit(at, |params: &mut adamw::Params| params.weight_decay = 0.1);
    }),
    ("a matrix does not decay", |m| {
        let mut p = m.named(UPDATE);
        let at = p.only("adamw", "model.layers.1.mlp.gate.weight");
        p.edit(at, |params: &mut adamw::Params| params.weight_decay = 0.0);
    }),
    ("moments swapped", |m| {
        let mut p = m.named(UPDATE);
        p.swap(p.only("adamw", "lm_head.weight"), "m", "v");
    }),
    ("rates of the moments swapped", |m| {
        let mut p = m.named(UPDATE);
        let at = p.only("adamw", "lm_head.weight");
        p.edit(at, |params: &mut adamw::Params| std::mem::swap(&mut params.beta1, &mut params.beta2));
    }),
    ("epsilon of another size", |m| {
        let mut p = m.named(UPDATE);
        let at = p.only("adamw", "model.embed_tokens.weight"); // rows of tokens that were never seen have no gradient
        p.edit(at, |params: &mut adamw::Params| params.epsilon *= 100.0);
    }),
    ("gradients of up and gate swapped", |m| {
        let mut p = m.named(UPDATE);
        let up = p.only("adamw", "model.layers.0.mlp.up_proj.weight");
        let gate = p.only("adamw", "model.layers.0.mlp.gate_proj.weight");
        let (d_up, d_gate) = (p.bound(up, "gradient"), p.bound(gate, "gradient"));
        p.bind(up, "gradient", d_gate);
        p.bind(gate, "gradient", d_up);
    }),
    ("a gradient that is added to is not cleared", |m| {
        let mut p = m.named(UPDATE);
        let at = p.only("adamw", "model.embed_tokens.weight");
        p.edit(at, |params: &mut adamw::Params| params.zeroed = 0);
    }),
    ("a parameter left out", |m| {
        let mut p = m.named(UPDATE);
        p.drop(p.only("adamw", "model.layers.2.mlp.experts.down_proj.weight"));
    }),
    ("the last element left out", |m| {
        let mut p = m.named(UPDATE);
        let at = p.only("adamw", "model.layers.2.mlp.experts.down_proj.weight");
        p.edit(at, |params: &mut adamw::Params| params.count -= 1);
    }),
];

/// Runs a window and its update, and compares every parameter, every moment and the gradients that must be cleared.
fn verdict(model: &Model, start: &Params<f64>) -> Result<(), String> {
    let mut cpu = model.run(start);
    let tensors = &model.program.tensors;
    let moments = model.program.moments.clone();
    for (seed, moments) in (1..).zip(&moments) {
        let [first, second] = both(moments);
        let values = uniform(seed, tensors.elements(first));
        cpu.set(first, &values.iter().map(|x| 0.1 * x).collect::<Vec<f64>>());
        cpu.set(second, &values.iter().map(|x| 0.01 * x * x).collect::<Vec<f64>>());
    }
    let gradient = |parameter| tensors.gradient_of(parameter).expect("it is trained");
    let before: Vec<[Vec<f64>; 4]> = moments
        .iter()
        .map(|x| {
            let [m, v] = both(x);
            [x.parameter, gradient(x.parameter), m, v].map(|t| cpu.get(t).to_vec())
        })
        .collect();
    let mut first = state::first_result(1.0); // as the first update left it
    (first[state::RESULT_CORRECTION1], first[state::RESULT_CORRECTION2]) = (0.1, 0.05);
    cpu.upload(model.program.inputs.loss.result, &first).expect("memory takes floats");
    cpu.run(model.program.recording(UPDATE)).expect("the CPU runs");
    let norm = before.iter().flat_map(|[_, g, ..]| g).map(|g| g * g).sum::<f64>().sqrt();
    assert!(norm > 1.0, "the clip has nothing to do");
    for (parameter, [x, g, m, v]) in model.program.weights.all.iter().zip(before) {
        let tensor = whole(&parameter.weight);
        let [first, second] = both(moments.iter().find(|x| x.parameter == tensor).expect("it is trained"));
        let decay = if parameter.spec.decay { 0.1 } else { 0.0 };
        let n = x.len();
        let step = |i: usize| adam([x[i], g[i], m[i], v[i]], 0.5 / (norm + 1e-6), decay);
        let expected: Vec<[f64; 3]> = (0..n).map(step).collect();
        for (part, (found, old)) in [(tensor, &x), (first, &m), (second, &v)].into_iter().enumerate() {
            let change = |i: usize| expected[i][part] - old[i];
            let largest = (0..n).map(change).fold(0.0f64, |m, c| m.max(c.abs()));
            for (i, found) in cpu.get(found).iter().enumerate() {
                let passes = (found - expected[i][part]).abs() <= TOLERANCE * largest; // which a NaN does not
                if !passes {
                    let what = ["parameter", "first moment", "second moment"][part];
                    let name = &parameter.spec.name;
                    return Err(format!("{name}: {what} {i} is {found}, not {}", expected[i][part]));
                }
            }
        }
        // The next window's first micro-step adds to the gradients of norms and of the embedding.
        let added = parameter.spec.shape.len() == 1 || parameter.spec.name == "model.embed_tokens.weight";
        if added && cpu.get(gradient(tensor)).iter().any(|&g| g != 0.0) {
            return Err(format!("{}: the gradient is not cleared", parameter.spec.name));
        }
    }
    Ok(())
}

/// The tensors of both moments.
fn both(moments: &Moments) -> [Tensor; 2] {
    let Kept::Whole { first, second } = moments.kept else { panic!("no parameter is large enough for 8 bits") };
    [first, second]
}

/// The second update of one number: parameter and moments afterwards. The settings are those of the model's window.
fn adam([x, g, m, v]: [f64; 4], clip: f64, decay: f64) -> [f64; 3] {
    let (rate, beta1, beta2, epsilon) = (0.01, 0.9, 0.95, 1e-8);
    let g = g * clip;
    let m = beta1 * m + (1.0 - beta1) * g;
    let v = beta2 * v + (1.0 - beta2) * g * g;
    let (m_hat, v_hat) = (m / (1.0 - beta1 * beta1), v / (1.0 - beta2 * beta2));
    [x - rate * decay * x - rate * m_hat / (v_hat.sqrt() + epsilon), m, v]
}

/// Plants every bug in turn.
pub fn outcomes() -> Vec<(String, Result<String, String>)> {
    let config = config(false);
    let start = values(&config);
    verdict(&Model::new(&config), &start).unwrap_or_else(|e| panic!("reported without a bug: {e}"));
    let plant = |(what, patch): &(&str, Patch)| {
        let mut model = Model::new(&config);
        patch(&mut model);
        ((*what).to_owned(), verdict(&model, &start).err().ok_or_else(|| "nothing is off".to_owned()))
    };
    BUGS.iter().map(plant).collect()
}
