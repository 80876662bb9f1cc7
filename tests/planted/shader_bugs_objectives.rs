//! The bugs that are planted in the losses of preference training.

use super::shader::ShaderBug;

const fn bug(what: &'static str, stem: &'static str, old: &'static str, new: &'static str) -> ShaderBug {
    ShaderBug::new(what, stem, old, new)
}

/// No patch reads or writes past a buffer's end: the shaders run without bounds checks.
pub static BUGS: &[ShaderBug] = &[
    bug("log-probability of the row's largest logit", "log_probs", "(target_logit - top)", "(top - top)"),
    bug("log-probability not normalised", "log_probs", " - log(total);", ";"),
    bug("entropy without its mean", "log_probs", "log(total) - mean", "log(total)"),
    bug("entropy: the mean not moved to the largest logit", "log_probs", "(weighted + fall * sum)", "weighted")
        .times(2),
    bug("metrics overwritten", "metric_sum", "metrics[column] += ", "metrics[column] = "),
    bug(
        "preference: chosen and rejected alike",
        "preference_loss",
        "select(p.beta * slope, ",
        "select(-p.beta * slope, ",
    ),
    bug("preference: no smoothing", "preference_loss", "p.smoothing * sigmoid(z) - ", "0.0 * sigmoid(z) - "),
    bug("preference: no reference", "preference_loss", " - reference[2u * pair + 1u]", ""),
    bug("preference: slope without beta", "preference_loss", "select(p.beta * slope, ", "select(slope, "),
    bug(
        "preference: ignored targets have weights",
        "preference_loss",
        "counted && targets[first + i] != IGNORED",
        "counted",
    ),
    bug("preference: half a pair counts", "preference_loss", "chosen.z > 0.0 && rejected.z > 0.0", "rejected.z > 0.0"),
    bug("policy: never clipped", "policy_loss", "0.0, low || high)", "0.0, false)"),
    bug("policy: clipped where the advantage pulls back", "policy_loss", "p.clip_low && advantage < 0.0", "p.clip_low"),
    bug("policy: the larger of the gains", "policy_loss", "let gain = min(", "let gain = max("),
    bug("policy: the divergence's sign", "policy_loss", "p.beta * (kl + d)", "p.beta * -(kl + d)"),
    bug("policy: entropy raises the loss", "policy_loss", " - p.entropy_bonus", " + p.entropy_bonus"),
    bug("entropy: lowered", "cross_entropy", "d += bonus", "d -= bonus"),
    bug("entropy: not less its mean", "cross_entropy", "entropies[token] - log(total)", "-log(total)"),
    bug(
        "entropy: of probabilities not normalised",
        "cross_entropy",
        "entropies[token] - log(total)",
        "entropies[token]",
    ),
    bug("entropy: all tokens alike", "cross_entropy", "p.entropy_bonus * factors[token]", "p.entropy_bonus"),
    bug("policy: no factor", "policy_loss", "loss_weights[t] = factor * ", "loss_weights[t] = "),
    bug("value: clipped values have gradients", "value_loss", "* error, 0.0, clipped)", "* error, 0.0, false)"),
    bug("value: the nearer of both", "value_loss", "abs(bounded) > abs(error)", "abs(bounded) < abs(error)"),
    bug("value: no loss scale", "value_loss", "result[RESULT_LOSS_SCALE] * ", ""),
    bug("reward: no margin", "pair_loss", " - margins[pair]", ""),
    bug("reward: chosen and rejected pushed alike", "pair_loss", "centre + apart", "centre - apart"),
    bug("reward: centred by half", "pair_loss", "one_pair * 2.0", "one_pair"),
    bug("reward: padding has a gradient", "pair_loss", "end_chosen != IGNORED && ", ""),
    bug("reward: pairs not averaged", "pair_loss", " * bitcast<f32>(state[STATE_INVERSE_PAIRS])", ""),
];
