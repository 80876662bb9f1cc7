//! Matrix products: squares, and the shapes of a model, each in the form that the device would run.

use super::cost::{Cost, cost};
use super::report::Seconds;
use super::settling;
use crate::backend::Device;
use crate::config::model::ModelConfig;
use crate::error::Result;
use crate::gpu::device::Gpu;
use crate::gpu::pipeline::{Allowed, Pipelines};
use crate::gpu::timing::{Content, Timed, Workload};
use crate::graph::Dtype;
use crate::kernels::matmul::{ADD, NN, NT, OVERWRITE, TN};
use crate::kernels::matmul_experts::{HALF_TILE_ROWS, TILE_ROWS};
use crate::kernels::{Halves, matmul, matmul_experts, matmul_experts_weight_grad};
use crate::reference::gemm::{Product as CpuProduct, View, gemm};
use serde::Serialize;
use std::time::Instant;

/// One product's figures.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What is multiplied: `nt 4096 x 1024 x 3072`.
    pub name: String,
    /// Suffix of the variant; empty for the portable form.
    pub variant: &'static str,
    /// Time of one product.
    pub seconds: Seconds,
    /// 2 m n k over the median, in 1e12 operations a second.
    pub tflops: f64,
    /// Bytes of both factors and of the result, each once, twice where it is added to, over the median, in 1e9 a
    /// second.
    pub gigabytes_a_second: f64,
}

/// One product to measure.
pub struct Product {
    name: String,
    cost: Cost,
    work: Workload,
}

impl Product {
    fn new(name: String, work: Workload) -> Self {
        let sizes: Vec<usize> = work.contents.iter().map(Content::len).collect();
        Product { name, cost: cost(work.kernel, &work.params, work.halves, &sizes), work }
    }

    /// A product of square matrices of side `n`, by a kernel whose parameters only its own file knows.
    pub fn square(name: &str, n: usize, work: Workload) -> Self {
        let shape = matmul::Params::dense(NT, OVERWRITE, n as u32, n as u32, n as u32);
        let halves = Halves::of([work.halves.has(0), work.halves.has(1)]);
        let cost = cost(&matmul::KERNEL, bytemuck::bytes_of(&shape), halves, &[]);
        Product { name: name.to_owned(), cost, work }
    }
}

fn named(form: u32) -> &'static str {
    ["nt", "nn", "tn"][form as usize]
}

/// A product of dense matrices with factors stored as `stored`; the result is f32 where it accumulates.
pub fn dense(form: u32, m: usize, n: usize, k: usize, stored: Dtype) -> Product {
    let accumulate = if form == TN { ADD } else { OVERWRITE };
    let params = matmul::Params::dense(form, accumulate, m as u32, n as u32, k as u32);
    let half = stored == Dtype::F16;
    Product::new(
        format!("{} {m} x {n} x {k}", named(form)),
        Workload {
            kernel: &matmul::KERNEL,
            params: bytemuck::bytes_of(&params).to_vec(),
            contents: vec![Content::Reals(m * k), Content::Reals(n * k), Content::Reals(4), Content::Reals(m * n)],
            halves: Halves::of([half, half, half, half && form != TN]),
        },
    )
}

/// The product of every expert's rows with its weight, `n` columns from `k`.
pub fn grouped(form: u32, experts: usize, rows: usize, n: usize, k: usize, stored: Dtype) -> Product {
    let (offsets, half) = (matmul_experts::shares(experts * rows, experts), stored == Dtype::F16);
    let tile_rows = if half { HALF_TILE_ROWS } else { TILE_ROWS };
    let all = offsets[experts] as usize;
    let tiles = matmul_experts::table(&offsets, tile_rows, all / tile_rows + experts);
    let params = matmul_experts::Params {
        rows: all as u32,
        n: n as u32,
        k: k as u32,
        form,
        first_expert: 0,
        expert_count: experts as u32,
        first_tile: 0,
        tiles: tiles.len() as u32 / 2,
        tile_rows: tile_rows as u32,
        accumulate: OVERWRITE,
    };
    Product::new(
        format!("grouped {} {experts} x {rows} x {n} x {k}", named(form)),
        Workload {
            kernel: &matmul_experts::KERNEL,
            params: bytemuck::bytes_of(&params).to_vec(),
            contents: vec![
                Content::Reals(all * k),
                Content::Reals(experts * n * k),
                Content::Indices(tiles),
                Content::Indices(offsets),
                Content::Reals(all * n),
            ],
            halves: Halves::of([half, half, false, false, half]),
        },
    )
}

/// The gradients of every expert's weight, (m, n) from its rows.
pub fn grouped_weight_grad(experts: usize, rows: usize, m: usize, n: usize, stored: Dtype) -> Product {
    let (offsets, half) = (matmul_experts::shares(experts * rows, experts), stored == Dtype::F16);
    let all = offsets[experts] as usize;
    let params = matmul_experts_weight_grad::Params {
        m: m as u32,
        n: n as u32,
        pairs: all as u32,
        first_expert: 0,
        expert_count: experts as u32,
        first_row: 0,
        row_count: m as u32,
        accumulate: ADD,
    };
    Product::new(
        format!("grouped tn {experts} x {m} x {n} x {rows}"),
        Workload {
            kernel: &matmul_experts_weight_grad::KERNEL,
            params: bytemuck::bytes_of(&params).to_vec(),
            contents: vec![
                Content::Reals(all * m),
                Content::Reals(all * n),
                Content::Indices(offsets),
                Content::Reals(experts * m * n),
            ],
            halves: Halves::of([half, half, false, false]),
        },
    )
}

/// Square products in each form.
pub fn squares(sizes: &[usize], stored: Dtype) -> Vec<Product> {
    sizes.iter().flat_map(|&n| [NT, NN, TN].map(|form| dense(form, n, n, n, stored))).collect()
}

/// The products of a training step of `config` over `tokens` tokens: forward, input gradient and weight gradient of
/// each distinct projection, and of the experts.
pub fn of_model(config: &ModelConfig, tokens: usize, stored: Dtype) -> Vec<Product> {
    let (d, heads, rank) = (config.hidden_size, config.num_attention_heads, config.kv_lora_rank);
    let mut shapes = vec![
        (heads * config.qk_head_dim(), d),
        (heads * (config.qk_nope_head_dim + config.v_head_dim), rank),
        (d, heads * config.v_head_dim),
        (config.intermediate_size, d),
        (config.vocab_size, d),
    ];
    shapes.dedup();
    let mut products = Vec::new();
    for (n, k) in shapes {
        products.push(dense(NT, tokens, n, k, stored));
        products.push(dense(NN, tokens, k, n, stored));
        products.push(dense(TN, n, k, tokens, stored));
    }
    if config.moe_layers() == 0 {
        return products;
    }
    let (experts, width) = (config.n_routed_experts, config.moe_intermediate_size);
    let rows = (tokens * config.num_experts_per_tok / experts).max(1);
    products.push(grouped(NT, experts, rows, width, d, stored));
    products.push(grouped(NN, experts, rows, d, width, stored));
    products.push(grouped_weight_grad(experts, rows, width, d, stored));
    products
}

/// Sides of the squares that a device of this kind is measured with.
pub fn sides(gpu: &Gpu) -> &'static [usize] {
    if gpu.summary.is_software() { &[256] } else { &[4096, 8192] }
}

/// Times each product, after the largest of them has settled the clock.
pub fn measure(gpu: &Gpu, allowed: &Allowed, products: &[Product], samples: usize) -> Result<Vec<Row>> {
    let mut pipelines = Pipelines::default();
    let flops = |product: &Product| product.cost.flops.unwrap_or(0.0);
    if let Some(largest) = products.iter().max_by(|a, b| flops(a).total_cmp(&flops(b))) {
        Timed::new(gpu, &mut pipelines, allowed, &largest.work)?.warm(settling(gpu))?;
    }
    products
        .iter()
        .map(|product| {
            let timed = Timed::new(gpu, &mut pipelines, allowed, &product.work)?;
            let seconds = Seconds::of(timed.seconds(samples)?);
            let rate = |amount: Option<f64>| amount.unwrap_or(0.0) / seconds.median;
            Ok(Row {
                name: product.name.clone(),
                variant: timed.suffix,
                seconds,
                tflops: rate(product.cost.flops) / 1e12,
                gigabytes_a_second: rate(product.cost.bytes) / 1e9,
            })
        })
        .collect()
}

/// Rate of one large square product in the form of a linear layer forward, with factors stored as the device stores
/// them, in 1e12 operations a second: what the rest of an update can be held against.
pub fn square(device: &Device, samples: usize) -> Result<f64> {
    match device {
        Device::Gpu { gpu, allowed, stored, .. } => {
            let n = sides(gpu)[0];
            Ok(measure(gpu, allowed, &[dense(NT, n, n, n, *stored)], samples)?[0].tflops)
        }
        Device::Cpu { .. } => {
            const N: usize = 768;
            let (a, mut c) = (vec![0.5f32; N * N], vec![0.0f32; N * N]);
            let [left, right] = [View::rows(&a, N), View::transposed(&a, N)];
            let product = CpuProduct { m: N, n: N, k: N, alpha: 1.0, a: left, b: right, beta: 0.0, c_stride: N };
            let mut once = || {
                let started = Instant::now();
                gemm(product, &mut c);
                started.elapsed().as_secs_f64()
            };
            once(); // touches the memory
            let seconds = Seconds::of((0..samples).map(|_| once()).collect());
            Ok(2.0 * (N * N * N) as f64 / seconds.median / 1e12)
        }
    }
}
