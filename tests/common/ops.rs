//! One small program per operation, mid-graph and with an upstream gradient that is not 1, for both executors.

use hadal::graph::backward::Gradients;
use hadal::graph::op::{Adapter, AttentionSizes, Balance, Linear, LossSlots, Mask, Rotation, RouterSizes, Weight};
use hadal::graph::tape::Tape;
use hadal::graph::{Recording, Role, Tensor, Tensors};
use hadal::kernels::case::{indices, uniform};
use hadal::kernels::router::{SIGMOID, SOFTMAX};
use hadal::kernels::state;

mod head_ops;

/// Tensors with their contents, a recording, and the scalar that is differentiated.
pub struct Program {
    pub name: String,
    pub tensors: Tensors,
    pub recording: Recording,
    pub gradients: Gradients,
    pub reals: Vec<(Tensor, Vec<f64>)>,
    pub integers: Vec<(Tensor, Vec<u32>)>,
    /// The objective is the sum of each tensor's elements times these factors.
    pub objective: Vec<(Tensor, Vec<f64>)>,
    /// Inputs and parameters whose gradients are compared.
    pub wanted: Vec<Tensor>,
}

impl Program {
    /// Where the gradient of an input or parameter is found after a run.
    pub fn gradient(&self, x: Tensor) -> Tensor {
        let found = self.tensors.gradient_of(x).or(self.gradients.get(x));
        found.unwrap_or_else(|| panic!("{}: {} has no gradient", self.name, self.tensors.info(x).name))
    }
}

/// Collects tensors and contents while a case is built.
struct Case {
    tensors: Tensors,
    reals: Vec<(Tensor, Vec<f64>)>,
    integers: Vec<(Tensor, Vec<u32>)>,
    wanted: Vec<Tensor>,
    seed: u64,
}

/// Limit that no weight here reaches.
const NO_LIMIT: u64 = 1 << 30;
/// 1 / pairs in the window.
const INVERSE_PAIRS: f32 = 0.25;

impl Case {
    fn new() -> Self {
        let (tensors, seed) = (Tensors::default(), 100);
        Case { tensors, reals: Vec::new(), integers: Vec::new(), wanted: Vec::new(), seed }
    }

    fn values(&mut self, shape: &[usize]) -> Vec<f64> {
        self.seed += 1;
        uniform(self.seed, shape.iter().product())
    }

    fn fixed(&mut self, name: &str, shape: &[usize]) -> Tensor {
        let tensor = self.tensors.real(name, shape, Role::Input);
        let values = self.values(shape);
        self.reals.push((tensor, values));
        tensor
    }

    fn input(&mut self, name: &str, shape: &[usize]) -> Tensor {
        let tensor = self.fixed(name, shape);
        self.wanted.push(tensor);
        tensor
    }

    fn parameter(&mut self, name: &str, shape: &[usize]) -> Tensor {
        let tensor = self.tensors.parameter(name, shape);
        let values = self.values(shape);
        self.reals.push((tensor, values));
        self.wanted.push(tensor);
        tensor
    }

    /// A parameter in parts of `rows` rows.
    fn parts(&mut self, name: &str, shape: &[usize], rows: usize) -> Weight {
        let firsts = (0..shape[0]).step_by(rows);
        let part = |case: &mut Self, first: usize| {
            let mut part = shape.to_vec();
            part[0] = rows.min(shape[0] - first);
            (first, case.parameter(&format!("{name}[{first}..]"), &part))
        };
        Weight { parts: firsts.map(|first| part(self, first)).collect(), copies: None, rows: shape[0] }
    }

    fn integer(&mut self, name: &str, shape: &[usize], values: Vec<u32>) -> Tensor {
        let tensor = self.tensors.index(name, shape, Role::Input);
        self.integers.push((tensor, values));
        tensor
    }

    /// Dropout keys, and 1 / (sequences in the window), 1 / (pairs in it).
    fn state(&mut self) -> Tensor {
        let mut words = vec![0; state::STATE_WORDS];
        words[state::STATE_KEY0] = 77;
        words[state::STATE_KEY1] = 12345;
        words[state::STATE_INVERSE_SEQUENCES] = 0.5f32.to_bits();
        words[state::STATE_INVERSE_PAIRS] = INVERSE_PAIRS.to_bits();
        self.integer("state", &[state::STATE_WORDS], words)
    }

    /// The words that stay from update to update, with a loss scale of 1.
    fn result(&mut self) -> Tensor {
        let tensor = self.tensors.real("result", &[state::RESULT_WORDS], Role::Input);
        self.reals.push((tensor, state::first_result(1.0).map(f64::from).to_vec()));
        tensor
    }

    /// What a loss head with these targets reads and writes.
    fn slots(&mut self, targets: Vec<u32>) -> LossSlots {
        let n = targets.len();
        LossSlots {
            targets: self.integer("targets", &[n], targets),
            loss_weights: self.fixed("loss_weights", &[n]),
            losses: self.tensors.real("losses", &[n], Role::State),
            correct: self.tensors.real("correct", &[n], Role::State),
            metrics: self.tensors.real("metrics", &[state::METRIC_WORDS], Role::State),
            result: self.result(),
        }
    }

    /// Records `build`; its outputs pass through an addition and get seeded upstream gradients.
    fn finish(mut self, name: &str, build: impl FnOnce(&mut Tape<'_>) -> Vec<Tensor>) -> Program {
        let mut t = Tape::training(&mut self.tensors, NO_LIMIT);
        let outputs = build(&mut t);
        let after: Vec<Tensor> = outputs.iter().map(|&y| t.add(y, y)).collect();
        let mut seeds = Vec::new();
        for &y in &after {
            let shape = t.tensors().info(y).shape.clone();
            let upstream = t.tensors().real("upstream", &shape, Role::Input);
            self.seed += 1;
            let factors = uniform(self.seed, shape.iter().product()).iter().map(|x| 1.5 + x).collect::<Vec<_>>();
            seeds.push((y, upstream, factors));
        }
        let pairs: Vec<_> = seeds.iter().map(|(y, upstream, _)| (*y, *upstream)).collect();
        let (recording, gradients) = t.finish_with_gradients("case", &pairs);
        let upstream = seeds.iter().map(|(_, upstream, factors)| (*upstream, factors.clone()));
        self.reals.extend(upstream);
        let objective = seeds.into_iter().map(|(y, _, factors)| (y, factors)).collect();
        self.program(name, recording, gradients, objective)
    }

    fn program(
        self,
        name: &str,
        recording: Recording,
        gradients: Gradients,
        objective: Vec<(Tensor, Vec<f64>)>,
    ) -> Program {
        let Case { mut tensors, reals, integers, wanted, .. } = self;
        let ends = wanted.iter().filter_map(|&x| gradients.get(x)).chain(objective.iter().map(|(y, _)| *y));
        ends.for_each(|tensor| tensors.keep(tensor));
        Program { name: name.to_owned(), tensors, recording, gradients, reals, integers, objective, wanted }
    }
}

/// Doubles an input, so that the operation stands in the middle of a graph and gradients join.
fn twice(t: &mut Tape<'_>, x: Tensor) -> Tensor {
    t.add(x, x)
}

fn rms_norm() -> Program {
    let mut c = Case::new();
    let (x, w) = (c.input("x", &[5, 7]), c.parameter("w", &[7]));
    c.finish("rms_norm", |t| {
        let x = twice(t, x);
        vec![t.rms_norm(x, w, 0.25)]
    })
}

fn linear(parts: usize) -> Program {
    let mut c = Case::new();
    let (x, h, w) = (c.input("x", &[5, 7]), c.input("h", &[5, 6]), c.parts("w", &[6, 7], parts));
    c.finish(&format!("linear in parts of {parts}"), |t| {
        let (x, h) = (twice(t, x), twice(t, h));
        let y = t.linear(x, &w);
        let z = t.linear_residual(x, &w, h); // x and w have two uses each
        vec![y, z]
    })
}

/// A matrix with an adapter whose factor is not 1, alone and onto a residual.
fn adapted() -> Program {
    let mut c = Case::new();
    let (x, h, w) = (c.input("x", &[5, 7]), c.input("h", &[5, 6]), c.parts("w", &[6, 7], 4));
    let (a, b) = (c.parts("a", &[3, 7], 2), c.parts("b", &[6, 3], 4));
    c.finish("linear with an adapter", |t| {
        let (x, h) = (twice(t, x), twice(t, h));
        let layer = Linear { weight: &w, adapter: Some(Adapter { a: &a, b: &b, scale: 1.5 }) };
        vec![t.linear(x, layer), t.linear_residual(x, layer, h)]
    })
}

/// Sums so long that they are made in slices: over columns in the product with a residual, over rows in the weight's
/// gradient, whose parts also share the gradient of the input.
fn long_sums(rows: usize, columns: usize) -> Program {
    let mut c = Case::new();
    let (x, h, w) = (c.input("x", &[rows, columns]), c.input("h", &[rows, 3]), c.parts("w", &[3, columns], 2));
    let program = c.finish(&format!("linear with sums of {rows} and of {columns}"), |t| {
        let (x, h) = (twice(t, x), twice(t, h));
        vec![t.linear_residual(x, &w, h)]
    });
    assert!(program.recording.steps.iter().any(|step| step.kernel.stem == "sum_slices"));
    program
}

fn split_and_rope() -> Program {
    let mut c = Case::new();
    let x = c.input("x", &[5, 2 * 7]);
    let positions = c.integer("positions", &[5], vec![0, 1, 2, 0, 3]);
    let table = c.fixed("table", &[4, 2, 2]);
    let rotation = Rotation { positions, table, heads: 2, offset: 2, rotated: 4 };
    c.finish("rope and split", |t| {
        let x = twice(t, x);
        let y = t.rope(x, rotation);
        let (left, right) = t.split(y, 5);
        vec![left, right]
    })
}

fn attention(dropout: f32) -> Program {
    let (batch, length, heads, nope, rope, value) = (2, 5, 2, 3, 2, 4);
    let mut c = Case::new();
    let n = batch * length;
    let q = c.input("q", &[n, heads * (nope + rope)]);
    let kv = c.input("kv", &[n, heads * (nope + value)]);
    let k_rope = c.input("k_rope", &[n, rope]);
    let document_start = c.integer("document_start", &[n], vec![0, 0, 0, 3, 3, 0, 0, 0, 0, 0]);
    let state = c.state();
    let size = |x: usize| x as u32;
    let sizes = AttentionSizes {
        batch: size(batch),
        length: size(length),
        heads: size(heads),
        nope: size(nope),
        rope: size(rope),
        value: size(value),
        scale: 0.7,
        dropout,
        site: 0,
        first_head: 0,
        head_count: size(batch * heads),
    };
    c.finish(&format!("attention, dropout {dropout}"), |t| {
        let (q, kv, k_rope) = (twice(t, q), twice(t, kv), twice(t, k_rope));
        vec![t.attention(q, kv, k_rope, Mask { document_start, state }, sizes)]
    })
}

fn swiglu() -> Program {
    let mut c = Case::new();
    let (gate, up) = (c.input("gate", &[3, 5]), c.input("up", &[3, 5]));
    c.finish("swiglu", |t| {
        let (gate, up) = (twice(t, gate), twice(t, up));
        vec![t.swiglu(gate, up)]
    })
}

fn dropout() -> Program {
    let mut c = Case::new();
    let x = c.input("x", &[6, 11]);
    let state = c.state();
    c.finish("dropout", |t| {
        let x = twice(t, x);
        let y = t.dropout(x, state, 0.4);
        vec![y]
    })
}

/// Ids 0..7 over 6 tokens with one repeated and some unused, sorted as the host sorts them.
fn embed(parts: usize) -> Program {
    let mut c = Case::new();
    let ids = vec![3, 6, 3, 0, 3, 5];
    let batch = hadal::data::batch::Batch::new(ids.clone(), ids, 1, 6);
    let (ids, order, segments) = (
        c.integer("ids", &[6], batch.ids),
        c.integer("token_order", &[6], batch.token_order),
        c.integer("segments", &[8], batch.segments),
    );
    let table = c.parts("table", &[7, 5], parts);
    c.finish(&format!("embed in parts of {parts}"), |t| vec![t.embed(ids, &table, order, segments)])
}

/// A mixture of experts without the router's product: (N, E) logits choose and weigh, by `scoring` and perhaps with a
/// bias.
fn experts(name: &str, groups: u32, normalise: u32, parts: usize, (scoring, biased): (u32, u32)) -> Program {
    let mut c = Case::new();
    let adapter = |c: &mut Case| [c.parts("a", &[6, 2, 5], parts), c.parts("b", &[6, 3, 2], parts)];
    let pair = name.contains("adapter").then(|| adapter(&mut c));
    let (n, experts, selected, d, inner) = (7, 6, 2, 5, 3);
    let (x, logits, h) = (c.input("x", &[n, d]), c.input("logits", &[n, experts]), c.input("h", &[n, d]));
    let (up, down) = (c.parts("up", &[experts, inner, d], parts), c.parts("down", &[experts, d, inner], parts));
    let bias = (biased != 0).then(|| c.fixed("bias", &[experts]));
    let sizes = RouterSizes {
        rows: n as u32,
        experts: experts as u32,
        selected,
        groups,
        groups_kept: groups.div_ceil(2),
        normalise,
        epsilon: 0.25,
        scale: 1.7,
        scoring,
        biased,
    };
    c.finish(name, |t| {
        let (x, logits, h) = (twice(t, x), twice(t, logits), twice(t, h));
        let (probs, chosen, weights) = t.router(logits, bias, sizes);
        let routing = t.expert_sort(chosen, experts);
        let xs = t.expert_gather(x, routing);
        let adapter = pair.as_ref().map(|[a, b]| Adapter { a, b, scale: 1.5 });
        let a = t.linear_experts(xs, Linear { weight: &up, adapter }, routing);
        let o = t.linear_experts(a, &down, routing);
        vec![t.expert_combine(h, o, weights, routing), probs]
    })
}

fn balance_loss(name: &str, scoring: u32) -> Program {
    let (b, length, experts, selected) = (2, 4, 5, 2);
    let mut c = Case::new();
    let logits = c.input("logits", &[b * length, experts]);
    let real = c.integer("real", &[b * length], vec![1, 1, 1, 1, 1, 1, 0, 0]);
    let state = c.state();
    let (result, metrics) = (c.result(), c.tensors.real("metrics", &[8], Role::State));
    let sizes = RouterSizes {
        rows: (b * length) as u32,
        experts: experts as u32,
        selected,
        groups: 1,
        groups_kept: 1,
        normalise: 0,
        epsilon: 0.0,
        scale: 1.0,
        scoring,
        biased: 0,
    };
    let mut t = Tape::training(&mut c.tensors, NO_LIMIT);
    let doubled = twice(&mut t, logits);
    let (probs, chosen, weights) = t.router(doubled, None, sizes);
    t.balance_loss(probs, chosen, Balance { sequences: b, alpha: 0.3, real, state, result, metrics });
    // The router's backward needs a gradient of its weights: zero, so that the balance loss alone is judged.
    let shape = t.tensors().info(weights).shape.clone();
    let zero = t.tensors().real("upstream", &shape, Role::Input);
    let (recording, gradients) = t.finish_with_gradients("case", &[(weights, zero)]);
    let mut factor = vec![0.0; 8];
    factor[state::METRIC_BALANCE] = 1.0;
    c.program(name, recording, gradients, vec![(metrics, factor)])
}

/// Every operation at least once.
pub fn programs() -> Vec<Program> {
    let mut programs = vec![
        rms_norm(),
        linear(6),
        linear(4),
        adapted(),
        long_sums(2, 1030),
        long_sums(1030, 2),
        split_and_rope(),
        attention(0.0),
        attention(0.3),
        swiglu(),
        dropout(),
        embed(7),
        embed(3),
        experts("experts, greedy", 1, 0, 6, (SOFTMAX, 0)),
        experts("experts, normalised, in parts", 1, 1, 4, (SOFTMAX, 0)),
        experts("experts with adapters, in parts", 1, 1, 4, (SOFTMAX, 0)),
        experts("experts, grouped", 3, 0, 6, (SOFTMAX, 0)),
        experts("experts, sigmoid", 1, 0, 6, (SIGMOID, 0)),
        experts("experts, sigmoid, biased, normalised, grouped", 3, 1, 6, (SIGMOID, 1)),
        balance_loss("balance_loss", SOFTMAX),
        balance_loss("balance_loss, sigmoid", SIGMOID),
    ];
    programs.extend(head_ops::programs());
    programs
}
