#!/usr/bin/env python3
"""Writes trl/objectives.json: what TRL's trainers make of fixed logits, by their own loss functions, in float64.

    python tests/golden/make_trl.py

needs torch and trl; made with TRL 1.16.0 on a CPU. Log-probabilities and entropies of the logits are those of TRL's
helpers; `DPOTrainer._compute_loss`, `GRPOTrainer._compute_loss` and `RewardTrainer.compute_loss` run on a stand-in for
the trainer, which has the settings that they read. The file holds, for 8 sequences of which the first `lengths` targets
count,

    logits, targets          what the log-probabilities are of
    log_probs, entropies     0 where a target does not count
    preference               sequences 2i are chosen, 2i + 1 rejected; losses, their gradients in log_probs, metrics
    policy                   two groups of four; the same
    reward                   a score for each sequence, and gradients in it
    advantages               of the same rewards

TRL's sigmoid loss knows no label smoothing; its `aot` has the same formula with it, on one pair at a time, where
sorting does nothing. Settings are numbers that f32 holds exactly, as parameters of kernels do.
"""

import contextlib
import json
from collections import defaultdict
from pathlib import Path
from types import MethodType, SimpleNamespace

import torch
import trl
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.reward_trainer import RewardTrainer
from trl.trainer.utils import entropy_from_logits, nanstd, selective_log_softmax

SEQUENCES, LENGTH, CLASSES, GROUP = 8, 6, 7, 4
LENGTHS = [6, 3, 4, 6, 1, 5, 2, 4]

torch.manual_seed(5)
torch.set_default_dtype(torch.float64)


def some(*shape, scale=1.0):
    """Random numbers with few digits."""
    return (torch.randn(*shape) * scale).mul(1000).round().div(1000)


def numbers(tensor):
    return tensor.detach().flatten().tolist()


accelerator = SimpleNamespace(
    device="cpu",
    num_processes=1,
    autocast=contextlib.nullcontext,
    gather=lambda x: x,
    gather_for_metrics=lambda x: x,
    reduce=lambda x, reduction: x,
)


def trainer(**settings):
    metrics = defaultdict(lambda: defaultdict(list))
    common = dict(accelerator=accelerator, aux_loss_enabled=False, _metrics=metrics, _total_train_tokens=0, _tp_size=1)
    return SimpleNamespace(**common, **settings)


def logged(stand_in, mode):
    return {name: values[0] for name, values in stand_in._metrics[mode].items()}


logits = some(SEQUENCES, LENGTH, CLASSES, scale=1.5)
targets = torch.randint(CLASSES, (SEQUENCES, LENGTH))
mask = (torch.arange(LENGTH) < torch.tensor(LENGTHS)[:, None]).long()
log_probs = selective_log_softmax(logits, targets) * mask
entropies = entropy_from_logits(logits) * mask


def preference(beta, smoothing, reference):
    """Mean over pairs, each by itself."""
    moving = log_probs.clone().requires_grad_()
    losses, metrics = [], defaultdict(list)
    first = torch.zeros(2, 1, dtype=torch.long)  # the token that the first target follows
    for pair in range(SEQUENCES // 2):
        rows = slice(2 * pair, 2 * pair + 2)
        outputs = SimpleNamespace(
            log_probs=moving[rows] * mask[rows],  # a model gives 0 where a label is ignored
            entropy=entropies[rows],
            mean_logits=logits[rows].mean(-1),
            is_top1=logits[rows].argmax(-1) == targets[rows],
        )
        stand_in = trainer(
            model=SimpleNamespace(training=False),
            ld_alpha=None,
            precompute_ref_logps=True,
            f_divergence_type="reverse_kl",
            loss_types=["aot" if smoothing else "sigmoid"],
            loss_weights=[1.0],
            beta=beta,
            label_smoothing=smoothing,
            use_weighting=False,
        )
        inputs = {
            "input_ids": torch.cat([first, targets[rows]], 1),
            "attention_mask": torch.cat([first + 1, mask[rows]], 1),
            "completion_mask": torch.cat([first, mask[rows]], 1),
            "ref_chosen_logps": reference[2 * pair : 2 * pair + 1],
            "ref_rejected_logps": reference[2 * pair + 1 : 2 * pair + 2],
        }
        losses.append(DPOTrainer._compute_loss(stand_in, lambda **_: outputs, inputs, False))
        for name, value in logged(stand_in, "eval").items():
            metrics[name].append(value)
    loss = torch.stack(losses).mean()
    loss.backward()
    names = [f"rewards/{name}" for name in ["chosen", "rejected", "accuracies", "margins"]]
    names += ["logps/chosen", "logps/rejected"]
    return {
        "beta": beta,
        "smoothing": smoothing,
        "loss": loss.item(),
        "gradient": numbers(moving.grad),
        "metrics": {name: sum(metrics[name]) / len(metrics[name]) for name in names},
    }


def policy(normaliser, beta, old, reference, advantages, maximum):
    moving = log_probs.clone().requires_grad_()
    outputs = SimpleNamespace(log_probs=moving, entropy=entropies)
    stand_in = trainer(
        model=SimpleNamespace(training=True),
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        use_vllm=False,
        _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=1,
        loss_type=normaliser,
        epsilon_low=0.1875,
        epsilon_high=0.25,
        beta=beta,
        max_completion_length=maximum,
    )
    scored = GRPOTrainer._get_per_token_logps_and_entropies.__wrapped__  # without its timing
    stand_in._get_per_token_logps_and_entropies = MethodType(scored, stand_in)
    inputs = {
        "prompt_ids": torch.zeros(SEQUENCES, 1, dtype=torch.long),
        "prompt_mask": torch.ones(SEQUENCES, 1, dtype=torch.long),
        "completion_ids": targets,
        "completion_mask": mask,
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": reference,
        "num_items_in_batch": mask.sum(),
    }
    loss = GRPOTrainer._compute_loss(stand_in, lambda **_: outputs, inputs)
    loss.backward()
    names = ["entropy", "clip_ratio/low_mean", "clip_ratio/high_mean"] + (["kl"] if beta else [])
    metrics = logged(stand_in, "train")
    assert metrics["clip_ratio/low_mean"] > 0 and metrics["clip_ratio/high_mean"] > 0, "ratios clipped on both sides"
    return {
        "normaliser": normaliser,
        "beta": beta,
        "loss": loss.item(),
        "gradient": numbers(moving.grad),
        "metrics": {name: metrics[name] for name in names},
    }


def reward(centring, scores, margins):
    """TRL wants all chosen before all rejected."""
    moving = scores.clone().requires_grad_()
    outputs = SimpleNamespace(logits=torch.cat([moving[::2], moving[1::2]])[:, None])
    stand_in = trainer(
        model=SimpleNamespace(training=False), args=SimpleNamespace(center_rewards_coefficient=centring or None)
    )
    loss = RewardTrainer.compute_loss(stand_in, lambda **_: outputs, {"margin": margins})
    loss.backward()
    metrics = logged(stand_in, "eval")
    return {
        "centring": centring,
        "loss": loss.item(),
        "gradient": numbers(moving.grad),
        "metrics": {name: metrics[name] for name in ["accuracy", "margin", "mean_reward"]},
    }


def advantages(scale, rewards):
    """The lines of `GRPOTrainer._generate_and_score_completions` that make advantages of rewards."""
    grouped = rewards.view(-1, GROUP)
    mean = torch.nanmean(grouped, dim=1).repeat_interleave(GROUP, dim=0)
    spread = nanstd(grouped, dim=1).repeat_interleave(GROUP, dim=0)
    if scale == "batch":
        spread = nanstd(rewards).expand_as(rewards)
    return (rewards - mean) / (1.0 if scale == "none" else spread + 1e-4)


rewards = some(SEQUENCES)
scores, margins = some(SEQUENCES), some(SEQUENCES // 2, scale=0.5).abs()
sums = (log_probs.sum(1) + some(SEQUENCES, scale=2.0)).mul(1000).round().div(1000)
old = (log_probs + some(SEQUENCES, LENGTH, scale=0.4)).mul(1000).round().div(1000)
reference = (log_probs + some(SEQUENCES, LENGTH, scale=0.4)).mul(1000).round().div(1000)
spread = advantages("group", rewards)
text = {
    "trl": trl.__version__,
    "classes": CLASSES,
    "lengths": LENGTHS,
    "logits": numbers(logits),
    "targets": numbers(targets),
    "log_probs": numbers(log_probs),
    "entropies": numbers(entropies),
    "preference": {
        "reference": numbers(sums),
        "cases": [preference(beta, smoothing, sums) for beta, smoothing in [(0.125, 0.0), (0.5, 0.0), (0.375, 0.125)]],
    },
    "policy": {
        "old": numbers(old),
        "reference": numbers(reference),
        "advantages": numbers(spread),
        "maximum": 8,
        "clip": [0.1875, 0.25],
        "cases": [
            policy(normaliser, beta, old, reference, spread, 8)
            for normaliser in ["grpo", "dapo", "dr_grpo"]
            for beta in [0.0, 0.25]
        ],
    },
    "reward": {
        "scores": numbers(scores),
        "margins": numbers(margins),
        "cases": [reward(centring, scores, margins) for centring in [0.0, 0.015625]],
    },
    "advantages": {
        "rewards": numbers(rewards),
        "size": GROUP,
        **{scale: numbers(advantages(scale, rewards)) for scale in ["group", "batch", "none"]},
    },
}
path = Path(__file__).resolve().parent / "trl/objectives.json"
path.write_text(json.dumps(text, indent=None, separators=(",", ":")) + "\n")
print(f"{path.name}: {path.stat().st_size} bytes")
