//! Low-rank adapters beside frozen weights: `[lora]` in TOML.

use super::model::ModelConfig;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// A kind of linear layer that can have adapters, by the last name of its module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoraTarget {
    /// Queries, where they have no latent.
    QProj,
    /// Down to the queries' latent.
    QAProj,
    /// Queries from their latent.
    QBProj,
    /// Down to the latent of keys and values, and the shared rope key.
    KvAProjWithMqa,
    /// Keys and values from their latent.
    KvBProj,
    /// Out of attention.
    OProj,
    /// The gate of dense layers, shared and routed experts.
    GateProj,
    /// Up in dense layers, shared and routed experts.
    UpProj,
    /// Down in dense layers, shared and routed experts.
    DownProj,
    /// The head, where it has a matrix of its own.
    LmHead,
}

impl LoraTarget {
    /// The module's name.
    pub fn name(self) -> &'static str {
        match self {
            LoraTarget::QProj => "q_proj",
            LoraTarget::QAProj => "q_a_proj",
            LoraTarget::QBProj => "q_b_proj",
            LoraTarget::KvAProjWithMqa => "kv_a_proj_with_mqa",
            LoraTarget::KvBProj => "kv_b_proj",
            LoraTarget::OProj => "o_proj",
            LoraTarget::GateProj => "gate_proj",
            LoraTarget::UpProj => "up_proj",
            LoraTarget::DownProj => "down_proj",
            LoraTarget::LmHead => "lm_head",
        }
    }

    /// Whether it belongs to a feed-forward layer.
    pub fn is_feed_forward(self) -> bool {
        matches!(self, LoraTarget::GateProj | LoraTarget::UpProj | LoraTarget::DownProj)
    }

    /// Whether a network has such a layer.
    fn is_in(self, model: &ModelConfig) -> bool {
        match self {
            LoraTarget::QProj => model.q_lora_rank.is_none(),
            LoraTarget::QAProj | LoraTarget::QBProj => model.q_lora_rank.is_some(),
            LoraTarget::LmHead => !model.tie_word_embeddings,
            _ => true,
        }
    }
}

/// Low-rank adapters (LoRA, arXiv 2106.09685): `W + alpha / rank * B A` with a frozen W.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// Rows of A and columns of B; 0, the default, for no adapters: all weights are trained.
    pub rank: usize,
    /// Numerator of the factor on B A; twice the rank by default.
    pub alpha: Option<f64>,
    /// Linear layers that get adapters: `q_proj`, `q_a_proj`, `q_b_proj`, `kv_a_proj_with_mqa`, `kv_b_proj`, `o_proj`,
    /// `gate_proj`, `up_proj`, `down_proj`, `lm_head`; all of attention by default.
    pub targets: Option<Vec<LoraTarget>>,
}

impl LoraConfig {
    /// Whether there are adapters.
    pub fn is_on(&self) -> bool {
        self.rank > 0
    }

    /// Numerator of the factor.
    pub fn alpha(&self) -> f64 {
        self.alpha.unwrap_or(2.0 * self.rank as f64)
    }

    /// The factor on B A.
    pub fn scale(&self) -> f64 {
        self.alpha() / self.rank as f64
    }

    /// The kinds of layers that get adapters; a model may lack some of them.
    pub fn targets(&self) -> Vec<LoraTarget> {
        use LoraTarget::{KvAProjWithMqa, KvBProj, OProj, QAProj, QBProj, QProj};
        self.targets.clone().unwrap_or_else(|| vec![QProj, QAProj, QBProj, KvAProjWithMqa, KvBProj, OProj])
    }

    /// The same adapters with every default spelt out, as `model` has them.
    pub fn explicit(&self, model: &ModelConfig) -> LoraConfig {
        let targets = self.targets().into_iter().filter(|target| target.is_in(model)).collect();
        LoraConfig { rank: self.rank, alpha: Some(self.alpha()), targets: Some(targets) }
    }

    /// Refuses adapters that `model` cannot have.
    ///
    /// Errors name the key as it stands under `[lora]`.
    pub fn validate(&self, model: &ModelConfig) -> Result<()> {
        if !self.is_on() {
            return Ok(());
        }
        let refuse = |key: &str, reason: String| Err(Error::config(format!("lora.{key}"), reason));
        let (rank, alpha, most) = (self.rank, self.alpha(), model.hidden_size);
        if rank > most {
            return refuse("rank", format!("is {rank}; more than model.hidden_size = {most} would learn no more"));
        }
        if !(alpha > 0.0 && alpha <= f64::from(1 << 20)) {
            return refuse("alpha", format!("is {alpha}; it must be above 0 and at most {}", 1 << 20));
        }
        let named = self.targets.as_deref().unwrap_or_default();
        if self.targets.is_some() && named.is_empty() {
            return refuse(
                "targets",
                "is empty; name a linear layer, or leave it out for those of attention".to_owned(),
            );
        }
        match named.iter().find(|target| !target.is_in(model)) {
            Some(LoraTarget::LmHead) => {
                refuse("targets", "has lm_head, which shares the embedding's matrix in this model".to_owned())
            }
            Some(target) => refuse("targets", format!("has {}, a layer that this model lacks", target.name())),
            None => Ok(()),
        }
    }
}
