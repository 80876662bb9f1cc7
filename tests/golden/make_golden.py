#!/usr/bin/env python3
"""Makes the golden files of this folder with transformers' DeepseekV2ForCausalLM and, where experts are scored by the
sigmoid, DeepseekV3ForCausalLM, in float64 on the CPU.

    python make_golden.py [FOLDER]

needs torch, safetensors and transformers >= 5.15. One folder a case is written into FOLDER, by default the folder of
this script: config.json and model.safetensors as save_pretrained makes them, and expected.safetensors with

    input_ids, labels    I64 [B, T]     labels[b, t] is the target of position t; -100 is not counted
    logits, loss         F32, F64       of that batch; no balance loss
    grad.NAME            F32            for every tensor NAME of model.safetensors, each expert by itself; selection
                                        biases have none
    adamw_losses, adamw_grad_norms  F64 [10]   ten steps on that one batch: the loss before each step and the
                                               norm of all gradients before clipping

Cases with router weights that transformers lacks have them computed by a router patched here. These and the cases of
DeepseekV3ForCausalLM have a config.json of the project's own model type, which says so.

Nothing in the project needs this script at run time; it says where the numbers come from.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from transformers import DeepseekV2Config, DeepseekV2ForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2TopkRouter

VOCABULARY, BATCH, LENGTH, STEPS = 61, 2, 12, 10
BIAS = "e_score_correction_bias"
LARGEST_TOTAL = 800_000  # bytes of all cases together: they are part of the repository

SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "q_lora_rank": None,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 4,
    "qk_rope_head_dim": 4,
    "v_head_dim": 4,
    "intermediate_size": 16,
    "moe_intermediate_size": 4,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "norm_topk_prob": False,
    "routed_scaling_factor": 1.0,
    "topk_method": "greedy",
    "n_group": 1,
    "topk_group": 1,
    "max_position_embeddings": 64,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
    "attention_bias": False,
    "tie_word_embeddings": False,
    "use_cache": False,
}
GROUPS = {"topk_method": "group_limited_greedy", "n_group": 2, "topk_group": 1, "routed_scaling_factor": 1.7}
NARROW = {"hidden_size": 16, "intermediate_size": 8, "kv_lora_rank": 4}
YARN = {**NARROW, "qk_rope_head_dim": 8}
YARN_ROPE = {
    "rope_theta": 10000.0,
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 32,
    "beta_slow": 1,
}
ROUTER = {**NARROW, "norm_topk_prob": True, "routed_scaling_factor": 1.7}
CASES = {
    "lite": {},
    "qlora": {"q_lora_rank": 12},
    "groups": GROUPS,
    "tied": {"tie_word_embeddings": True, "first_k_dense_replace": 0, "n_shared_experts": 2},
    # Of the four rotated pairs the first is kept, the second blends half and half, the others are slowed.
    "yarn_mscale": {**YARN, "rope_parameters": {**YARN_ROPE, "mscale": 0.5}},
    "yarn_mscale_all_dim": {**YARN, "rope_parameters": {**YARN_ROPE, "mscale_all_dim": 0.5}},
    "linear": {**YARN, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "linear", "factor": 2.5}},
    # The 12 tokens of a row are more than 8.
    "dynamic": {
        **YARN,
        "max_position_embeddings": 8,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "dynamic", "factor": 2.0},
    },
    "router_deepseek": {**ROUTER, "router_weights": "deepseek"},
    "router_seed": {**ROUTER, "router_weights": "seed"},
    "router_norm_scale": {**ROUTER, "router_weights": "norm_scale"},
    # The bias keeps the best expert of some tokens from them.
    "router_sigmoid": {
        **ROUTER,
        "hidden_size": 12,
        "num_hidden_layers": 1,
        "first_k_dense_replace": 0,
        "tie_word_embeddings": True,
        "moe_intermediate_size": 2,
        "n_routed_experts": 6,
        "n_group": 3,
        "topk_group": 2,
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
        "bias_update_speed": 0.0,  # transformers never moves biases
    },
}
# What a config.json says of a case that transformers' DeepseekV2ForCausalLM cannot compute.
OWN_KEYS = ["router_weights", "scoring_func", "topk_method", "bias_update_speed"]


# What each way of weighing makes of the chosen experts' probabilities and the scaling factor; all are normalised.
WEIGHTS = {
    "deepseek": lambda p, _: p / (p.sum(-1, keepdim=True) + 1e-20),
    "seed": lambda p, _: p / (p.sum(-1, keepdim=True) + 1e-9),
    "norm_scale": lambda p, scale: scale * p / (p.sum(-1, keepdim=True) + 1e-20),
}


def weigh(model, mode):
    """Replaces the weights of every router, which are probabilities times the scaling factor."""

    def hook(router, _, outputs):
        logits, weights, chosen = outputs
        scale = router.routed_scaling_factor
        return logits, WEIGHTS[mode](weights / scale, scale), chosen

    for module in model.modules():
        if isinstance(module, DeepseekV2TopkRouter):
            module.register_forward_hook(hook)


def mark_as_own(path, changes):
    """Turns a config.json into one that transformers refuses, rather than computing other numbers."""
    config = json.loads(path.read_text())
    for key in ["rope_interleave", "num_nextn_predict_layers"]:  # of DeepseekV3Config alone
        config.pop(key, None)
    config |= {"architectures": ["HadalForCausalLM"], "model_type": "hadal"}
    config |= {key: changes[key] for key in OWN_KEYS if key in changes}
    path.write_text(json.dumps(config, indent=2) + "\n")


def random_model(changes, generator):
    """A model whose weights are f32 numbers large enough that every part matters to the loss."""
    own = ["router_weights", "scoring_func", "bias_update_speed"]
    keys = {key: value for key, value in (SMALL | changes).items() if key not in own}
    classes = (DeepseekV2Config, DeepseekV2ForCausalLM)
    if "scoring_func" in changes:
        classes = (DeepseekV3Config, DeepseekV3ForCausalLM)
        del keys["topk_method"]  # it knows one
    config = classes[0](**keys, attn_implementation="eager", experts_implementation="eager")
    model = classes[1](config).float().train()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.15 * noise if parameter.dim() >= 2 else 1 + 0.1 * noise)
        for name, buffer in model.named_buffers():
            if name.endswith(BIAS):
                buffer.copy_(0.2 * torch.randn(buffer.shape, generator=generator))
    return model


def random_batch(generator):
    """Tokens and targets; some targets are not counted, at both ends of a row."""
    tokens = torch.randint(0, VOCABULARY, (BATCH, LENGTH + 1), generator=generator)
    inputs, labels = tokens[:, :-1].clone(), tokens[:, 1:].clone()
    labels[0, :3] = -100
    labels[1, -2:] = -100
    return inputs, labels


def loss_of(model, inputs, labels):
    logits = model(input_ids=inputs).logits
    return logits, cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)


def gradients_on_disk(model):
    """Gradients under the names that the tensors have on disk."""
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        if name.endswith("experts.gate_up_proj"):
            prefix = name.removesuffix("gate_up_proj")
            for expert, both in enumerate(gradient):
                gate, up = both.chunk(2)  # gate rows come first
                yield f"{prefix}{expert}.gate_proj.weight", gate
                yield f"{prefix}{expert}.up_proj.weight", up
        elif name.endswith("experts.down_proj"):
            prefix = name.removesuffix("down_proj")
            for expert, down in enumerate(gradient):
                yield f"{prefix}{expert}.down_proj.weight", down
        else:
            yield name, gradient


def trajectory(model, inputs, labels):
    """Losses and gradient norms of AdamW; vectors do not decay."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8)
    losses, norms = [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        _, loss = loss_of(model, inputs, labels)
        loss.backward()
        losses.append(loss.item())
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        optimizer.step()
    return losses, norms


def make(folder, number, changes):
    generator = torch.Generator().manual_seed(1000 + number)
    model = random_model(changes, generator)
    inputs, labels = random_batch(generator)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if mode := changes.get("router_weights"):
        weigh(model, mode)
    if mode or "scoring_func" in changes:
        mark_as_own(folder / "config.json", changes)
    model = model.double()
    logits, loss = loss_of(model, inputs, labels)
    loss.backward()
    expected = {f"grad.{name}": gradient.float() for name, gradient in gradients_on_disk(model)}
    with safe_open(folder / "model.safetensors", "pt") as stored:
        trained = [name for name in stored.keys() if not name.endswith(BIAS)]
        assert {f"grad.{name}" for name in trained} == expected.keys(), "a gradient for every trained tensor on disk"
    losses, norms = trajectory(model, inputs, labels)
    expected |= {
        "input_ids": inputs,
        "labels": labels,
        "logits": logits.detach().float(),
        "loss": loss.detach().reshape(1),
        "adamw_losses": torch.tensor(losses, dtype=torch.float64),
        "adamw_grad_norms": torch.tensor(norms, dtype=torch.float64),
    }
    save_file({name: tensor.contiguous() for name, tensor in expected.items()}, folder / "expected.safetensors")
    print(f"{folder.name}: loss {losses[0]:.6f} to {losses[-1]:.6f}")


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for number, (name, changes) in enumerate(CASES.items()):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        make(folder, number, changes)
    total = sum(f.stat().st_size for name in CASES for f in (root / name).iterdir())
    print(f"{total} bytes")
    assert total < LARGEST_TOTAL, "the golden files are to stay small"


if __name__ == "__main__":
    main()
