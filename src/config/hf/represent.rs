//! What transformers' class cannot represent, and the nearest model that it can.

use crate::config::model::{ModelConfig, RouterWeights, ScoringFunc, TopkMethod};
use crate::config::rope::{RopeScaling, RopeType};
use crate::error::{Error, Result};
use crate::model::positions::base;

/// A setting that transformers lacks.
struct Obstacle {
    key: &'static str,
    value: String,
    /// What to know about it beyond that.
    hint: Option<String>,
    /// What the nearest model has in its place and what of it differs; nothing where transformers finds no place for
    /// the weights.
    instead: Option<String>,
}

/// Everything that stands in the way of equal logits from equal weights.
fn obstacles(c: &ModelConfig) -> Vec<Obstacle> {
    let mut found = Vec::new();
    let mut add = |key, value: String, hint, instead| found.push(Obstacle { key, value, hint, instead });
    if c.rope_scaling.kind == RopeType::Ntk {
        let theta = base(c, c.max_position_embeddings);
        let same = format!("type \"default\" with rope_theta {theta} is the same");
        let instead = format!("rope_theta {theta} without scaling, which computes the same");
        add("rope_scaling.type", "\"ntk\"".to_owned(), Some(same), Some(instead));
    }
    if c.rope_scaling.is_seed_literal() {
        let instead = "\"hf\": positions turn at other frequencies, so all logits differ".to_owned();
        add("rope_scaling.yarn_variant", "\"seed_literal\"".to_owned(), None, Some(instead));
    }
    if c.moe_layers() == 0 {
        return found;
    }
    if (c.first_k_dense_replace..c.num_hidden_layers).any(|i| !c.is_moe(i)) {
        let hint = "every layer from first_k_dense_replace on has experts there".to_owned();
        add("moe_layer_freq", c.moe_layer_freq.to_string(), Some(hint), None);
    }
    if c.n_shared_experts == 0 {
        add("n_shared_experts", "0".to_owned(), Some("there is at least one there".to_owned()), None);
    }
    if c.scoring_func == ScoringFunc::Sigmoid {
        let hint = "DeepseekV2ForCausalLM scores experts by softmax alone and selects them without a bias".to_owned();
        let instead = "\"softmax\" and without selection biases: experts are chosen and weighed otherwise, so all \
                       logits differ";
        add("scoring_func", "\"sigmoid\"".to_owned(), Some(hint), Some(instead.to_owned()));
    }
    let (normalised, scaled) = (c.norm_topk_prob, c.routed_scaling_factor != 1.0);
    let same = match c.router_weights {
        RouterWeights::Hf => true,
        RouterWeights::Deepseek => !(normalised && c.num_experts_per_tok > 1),
        RouterWeights::Seed => !normalised && !scaled,
        RouterWeights::NormScale => false,
    };
    if !same {
        let value = serde_json::to_value(c.router_weights).unwrap_or_default().to_string();
        let hint = "it weighs experts otherwise than routed_scaling_factor * p, as only \"hf\" does".to_owned();
        let instead = "\"hf\": experts weigh routed_scaling_factor * p, so all logits differ".to_owned();
        add("router_weights", value, Some(hint), Some(instead));
    }
    found
}

/// Whether transformers computes the same logits from these weights; the error says all that stands in the way.
pub fn check_representable(c: &ModelConfig) -> Result<()> {
    refuse(obstacles(c).iter())
}

fn refuse<'a>(obstacles: impl Iterator<Item = &'a Obstacle>) -> Result<()> {
    let reason = |o: &Obstacle| {
        let hint = o.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        format!("is {}: transformers cannot represent this, so the model cannot be exported{hint}", o.value)
    };
    let mut all = obstacles.map(|o| (format!("model.{}", o.key), reason(o)));
    let Some((key, mut reason)) = all.next() else { return Ok(()) };
    for (key, other) in all {
        reason.push_str(&format!("; {key}: {other}"));
    }
    Err(Error::config(key, reason))
}

/// The model with the same weights that transformers can represent and that comes nearest to this one, and a line for
/// each thing in which it differs.
///
/// Errors: transformers has no place for some of the weights.
pub fn nearest(c: &ModelConfig) -> Result<(ModelConfig, Vec<String>)> {
    let obstacles = obstacles(c);
    refuse(obstacles.iter().filter(|o| o.instead.is_none()))?;
    let line = |o: &Obstacle| {
        let instead = o.instead.as_deref().unwrap_or_default();
        format!("model.{}: transformers cannot represent {}; it will compute with {instead}", o.key, o.value)
    };
    let lines = obstacles.iter().map(line).collect();
    let mut near = c.clone();
    for obstacle in &obstacles {
        match obstacle.key {
            "rope_scaling.type" => {
                near.rope_theta = base(c, c.max_position_embeddings);
                near.rope_scaling = RopeScaling::default();
            }
            "rope_scaling.yarn_variant" => near.rope_scaling.yarn_variant = None,
            "scoring_func" => {
                near.scoring_func = ScoringFunc::Softmax;
                if c.topk_method == TopkMethod::NoauxTc {
                    near.topk_method = if c.n_group > 1 { TopkMethod::GroupLimitedGreedy } else { TopkMethod::Greedy };
                }
            }
            _ => near.router_weights = RouterWeights::Hf,
        }
    }
    Ok((near, lines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rope::YarnVariant;

    #[test]
    fn the_nearest_model_is_representable_and_every_difference_is_named() {
        let ntk = RopeScaling { kind: RopeType::Ntk, factor: Some(4.0), ..RopeScaling::default() };
        let literal = RopeScaling {
            kind: RopeType::Yarn,
            factor: Some(4.0),
            original_max_position_embeddings: Some(32),
            yarn_variant: Some(YarnVariant::SeedLiteral),
            ..RopeScaling::default()
        };
        for rope_scaling in [ntk, literal] {
            let c = ModelConfig {
                rope_scaling,
                norm_topk_prob: true,
                router_weights: RouterWeights::Seed,
                ..ModelConfig::default()
            };
            let refusal = check_representable(&c).unwrap_err().to_string();
            assert!(refusal.contains("rope_scaling") && refusal.contains("model.router_weights"), "{refusal}");
            let (near, lines) = nearest(&c).unwrap();
            check_representable(&near).unwrap();
            near.validate().unwrap();
            assert!(lines.len() == 2 && lines[1].contains("\"seed\""), "{lines:?}");
            // What is computed with is not what stood there, but the rotation of ntk is.
            let same = crate::model::positions::frequencies(&c, 8) == crate::model::positions::frequencies(&near, 8);
            assert_eq!(same, c.rope_scaling.kind == RopeType::Ntk);
        }
    }

    #[test]
    fn sigmoid_scores_become_softmax_and_the_biases_are_left_out() {
        for (method, n_group, near_method) in [
            (TopkMethod::NoauxTc, 4, TopkMethod::GroupLimitedGreedy),
            (TopkMethod::NoauxTc, 1, TopkMethod::Greedy),
            (TopkMethod::Greedy, 4, TopkMethod::Greedy),
        ] {
            let c = ModelConfig {
                scoring_func: ScoringFunc::Sigmoid,
                topk_method: method,
                n_group,
                ..ModelConfig::default()
            };
            let refusal = check_representable(&c).unwrap_err().to_string();
            assert!(refusal.starts_with("model.scoring_func: is \"sigmoid\""), "{refusal}");
            let (near, lines) = nearest(&c).unwrap();
            check_representable(&near).unwrap();
            near.validate().unwrap();
            assert!(near.topk_method == near_method && !near.has_expert_bias() && lines.len() == 1, "{lines:?}");
        }
    }

    #[test]
    fn weights_without_a_place_have_no_nearest_model() {
        for (c, key) in [
            (ModelConfig { n_shared_experts: 0, ..ModelConfig::default() }, "n_shared_experts"),
            (ModelConfig { moe_layer_freq: 2, ..ModelConfig::default() }, "moe_layer_freq"),
        ] {
            let message = nearest(&c).unwrap_err().to_string();
            assert!(message.starts_with(&format!("model.{key}:")), "{message}");
        }
        assert_eq!(nearest(&ModelConfig::default()).unwrap(), (ModelConfig::default(), vec![]));
    }
}
