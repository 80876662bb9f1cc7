//! How rotation goes past the length that a model was trained at: `[model.rope_scaling]`.

use super::model::ModelConfig;
use crate::error::{Error, Result};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// What is done to the rotation frequencies; the formulas are in `model::positions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum RopeType {
    /// Nothing: plain rotary positions.
    #[default]
    Default,
    /// All frequencies are divided by `factor`.
    Linear,
    /// A larger base, which divides the lowest frequency by `factor` and leaves the highest.
    Ntk,
    /// As `ntk` in sequences longer than `max_position_embeddings`, the more the longer; plain in shorter ones.
    Dynamic,
    /// High frequencies stay, low ones are divided by `factor`, and those between blend (arXiv 2309.00071).
    Yarn,
}

impl RopeType {
    /// The name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            RopeType::Default => "default",
            RopeType::Linear => "linear",
            RopeType::Ntk => "ntk",
            RopeType::Dynamic => "dynamic",
            RopeType::Yarn => "yarn",
        }
    }
}

/// Whose YaRN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum YarnVariant {
    /// That of transformers, from 5.15 on.
    #[default]
    Hf,
    /// That of the from-scratch project, whose frequencies an error of operator precedence spoils: for comparing its
    /// loss curves, not for use.
    SeedLiteral,
}

/// `[model.rope_scaling]`. Keys that the type does not use are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct RopeScaling {
    /// `default`, `linear`, `ntk`, `dynamic` or `yarn`.
    #[serde(rename = "type")]
    pub kind: RopeType,
    /// f: how many times longer sequences may get; at least 1. For every type but `default`, which has none.
    pub factor: Option<f64>,
    /// T0: length that the model was trained at before. For `yarn`, and so are all keys that follow.
    pub original_max_position_embeddings: Option<usize>,
    /// Turns within T0 from which on a frequency stays as it is; 32 if absent.
    pub beta_fast: Option<f64>,
    /// Turns within T0 up to which a frequency is divided by the whole factor; 1 if absent.
    pub beta_slow: Option<f64>,
    /// Part of the factor on cosines and sines, which counts only beside `mscale_all_dim`.
    pub mscale: Option<f64>,
    /// Grows the scale of the attention scores, and divides the factor on cosines and sines if `mscale` is there.
    pub mscale_all_dim: Option<f64>,
    /// The factor on cosines and sines itself, whatever `mscale` says.
    pub attention_factor: Option<f64>,
    /// Whether the bounds of the blend are rounded to whole pairs; true if absent.
    pub truncate: Option<bool>,
    /// `hf` or `seed_literal`.
    pub yarn_variant: Option<YarnVariant>,
}

/// Reads the section from a table alone: derived structures would take a list too.
pub(super) fn from_table<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<RopeScaling, D::Error> {
    let table = toml::Table::deserialize(deserializer)?;
    RopeScaling::deserialize(table).map_err(|e| D::Error::custom(e.message()))
}

impl RopeScaling {
    /// Turns from which on a frequency stays as it is.
    pub fn fast(&self) -> f64 {
        self.beta_fast.unwrap_or(32.0)
    }

    /// Turns up to which a frequency is divided by the whole factor.
    pub fn slow(&self) -> f64 {
        self.beta_slow.unwrap_or(1.0)
    }

    /// Whether this is the from-scratch project's own YaRN.
    pub fn is_seed_literal(&self) -> bool {
        self.kind == RopeType::Yarn && self.yarn_variant == Some(YarnVariant::SeedLiteral)
    }

    /// The keys that are set, the type apart.
    fn given(&self) -> impl Iterator<Item = &'static str> {
        [
            ("factor", self.factor.is_some()),
            ("original_max_position_embeddings", self.original_max_position_embeddings.is_some()),
            ("beta_fast", self.beta_fast.is_some()),
            ("beta_slow", self.beta_slow.is_some()),
            ("mscale", self.mscale.is_some()),
            ("mscale_all_dim", self.mscale_all_dim.is_some()),
            ("attention_factor", self.attention_factor.is_some()),
            ("truncate", self.truncate.is_some()),
            ("yarn_variant", self.yarn_variant.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, is_set)| is_set.then_some(key))
    }

    /// Refuses keys that are missing, out of range or without meaning for the type; `theta` is the base.
    pub(super) fn validate(&self, theta: f64) -> Result<()> {
        let name = format!("type {:?}", self.kind.name());
        let used: &[&str] = match self.kind {
            RopeType::Default => &[],
            RopeType::Linear | RopeType::Ntk | RopeType::Dynamic => &["factor"],
            RopeType::Yarn if self.is_seed_literal() => SEED_KEYS,
            RopeType::Yarn => return self.check_yarn(theta),
        };
        if let Some(key) = self.given().find(|key| !used.contains(key)) {
            let whole = "a type with its keys as a whole is set by model.rope_scaling={type = \"..\", factor = ..}";
            let what = if self.is_seed_literal() { "yarn_variant \"seed_literal\"".to_owned() } else { name };
            return refuse(key, format!("has no meaning for {what}; {whole}"));
        }
        match self.kind {
            RopeType::Default => Ok(()),
            RopeType::Yarn => self.check_yarn(theta),
            _ => self.check_factor(),
        }
    }

    fn check_factor(&self) -> Result<()> {
        match self.factor {
            None => refuse("factor", format!("is missing; type {:?} needs a number of at least 1", self.kind.name())),
            Some(factor) if !(factor.is_finite() && factor >= 1.0) => {
                refuse("factor", format!("is {factor}; it must be a number of at least 1"))
            }
            Some(_) => Ok(()),
        }
    }

    fn check_yarn(&self, theta: f64) -> Result<()> {
        self.check_factor()?;
        match self.original_max_position_embeddings {
            None => {
                let reason = "is missing; type \"yarn\" needs the length that the model was trained at before";
                return refuse("original_max_position_embeddings", reason);
            }
            Some(0) => return refuse("original_max_position_embeddings", "is 0; it must be at least 1"),
            Some(_) => {}
        }
        for (key, x) in [("beta_fast", self.fast()), ("beta_slow", self.slow())] {
            if !(x.is_finite() && x > 0.0) {
                return refuse(key, format!("is {x}; it must be a positive number"));
            }
        }
        if self.fast() < self.slow() {
            let reason = format!("is {}, below beta_slow = {}; fast pairs turn more often", self.fast(), self.slow());
            return refuse("beta_fast", reason);
        }
        for (key, x) in [("mscale", self.mscale), ("mscale_all_dim", self.mscale_all_dim)] {
            if x.is_some_and(|x| !(x.is_finite() && x >= 0.0)) {
                return refuse(key, format!("is {}; it must be a number that is not negative", x.unwrap_or_default()));
            }
        }
        if let Some(x) = self.attention_factor.filter(|x| !(x.is_finite() && *x > 0.0)) {
            return refuse("attention_factor", format!("is {x}; it must be a positive number"));
        }
        if theta <= 1.0 {
            let reason = format!("is {theta}; with model.rope_scaling of type \"yarn\" it must be above 1");
            return Err(Error::config("model.rope_theta", reason));
        }
        Ok(())
    }
}

/// What the from-scratch project's YaRN looks at.
const SEED_KEYS: &[&str] = &["factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "yarn_variant"];

impl ModelConfig {
    /// The longest sequence that the model takes; there is no end where the base grows with the length.
    pub fn longest(&self) -> usize {
        match self.rope_scaling.kind {
            RopeType::Dynamic => usize::MAX,
            _ => self.max_position_embeddings,
        }
    }
}

fn refuse(key: &str, reason: impl Into<String>) -> Result<()> {
    Err(Error::config(format!("model.rope_scaling.{key}"), reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yarn() -> RopeScaling {
        let original_max_position_embeddings = Some(512);
        RopeScaling { kind: RopeType::Yarn, factor: Some(4.0), original_max_position_embeddings, ..Default::default() }
    }

    fn blamed(scaling: RopeScaling) -> String {
        match scaling.validate(10_000.0) {
            Ok(()) => String::new(),
            Err(Error::Config { key, .. }) => key.trim_start_matches("model.rope_scaling.").to_owned(),
            Err(other) => panic!("not a configuration error: {other}"),
        }
    }

    #[test]
    fn every_type_takes_its_keys_and_no_others() {
        let of = |kind| RopeScaling { kind, factor: Some(2.0), ..RopeScaling::default() };
        assert_eq!(blamed(RopeScaling::default()), "");
        assert_eq!(blamed(of(RopeType::Default)), "factor");
        for kind in [RopeType::Linear, RopeType::Ntk, RopeType::Dynamic] {
            assert_eq!(blamed(of(kind)), "");
            assert_eq!(blamed(RopeScaling { factor: None, ..of(kind) }), "factor");
            assert_eq!(blamed(RopeScaling { mscale_all_dim: Some(1.0), ..of(kind) }), "mscale_all_dim");
            assert_eq!(blamed(RopeScaling { yarn_variant: Some(YarnVariant::Hf), ..of(kind) }), "yarn_variant");
        }
        assert_eq!(blamed(yarn()), "");
        assert_eq!(blamed(of(RopeType::Yarn)), "original_max_position_embeddings");
        let seed = RopeScaling { yarn_variant: Some(YarnVariant::SeedLiteral), ..yarn() };
        assert_eq!(blamed(seed.clone()), "");
        assert_eq!(blamed(RopeScaling { mscale: Some(1.0), ..seed.clone() }), "mscale");
        assert_eq!(blamed(RopeScaling { factor: None, ..seed }), "factor");
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_their_names() {
        for factor in [0.5, 0.0, -4.0, f64::NAN, f64::INFINITY] {
            assert_eq!(blamed(RopeScaling { factor: Some(factor), ..yarn() }), "factor");
            let linear = RopeScaling { kind: RopeType::Linear, factor: Some(factor), ..RopeScaling::default() };
            assert_eq!(blamed(linear), "factor");
        }
        let original = |length| RopeScaling { original_max_position_embeddings: length, ..yarn() };
        assert_eq!(blamed(original(None)), "original_max_position_embeddings");
        assert_eq!(blamed(original(Some(0))), "original_max_position_embeddings");
        assert_eq!(blamed(RopeScaling { beta_fast: Some(f64::NAN), ..yarn() }), "beta_fast");
        assert_eq!(blamed(RopeScaling { beta_slow: Some(0.0), ..yarn() }), "beta_slow");
        assert_eq!(blamed(RopeScaling { beta_slow: Some(33.0), ..yarn() }), "beta_fast");
        assert_eq!(blamed(RopeScaling { mscale: Some(-1.0), ..yarn() }), "mscale");
        assert_eq!(blamed(RopeScaling { mscale_all_dim: Some(f64::NAN), ..yarn() }), "mscale_all_dim");
        assert_eq!(blamed(RopeScaling { attention_factor: Some(0.0), ..yarn() }), "attention_factor");
        assert!(yarn().validate(1.0).unwrap_err().to_string().starts_with("model.rope_theta: is 1;"));
    }
}
