#!/usr/bin/env python3
"""Opens a reward model of `hadal reward` in transformers and compares its scores with hadal's own.

    cargo build --release
    python tests/golden/check_reward.py [--hadal target/release/hadal]

needs torch, safetensors and transformers 5; checked with 5.24. A small model is pretrained, a reward model made of it,
and its checkpoint opened by AutoModelForSequenceClassification. hadal notes what it thinks of the held-out pairs after
the last update; the same pairs, written by the checkpoint's own chat template, get their scores from transformers, each
answer by itself and all of them as one padded batch. Means of the chosen and of the rejected answers, the loss and the
share that is ranked right must agree. Ends with status 1 if anything differs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

ROOT = Path(__file__).resolve().parent.parent.parent
NEAR = 1e-4  # of the largest score: two programs that add in another order
CENTRING = 0.01  # reward_model.center_rewards_coefficient
LENGTH = 64

failures = []


def check(name, good, detail=""):
    print(f"{'ok' if good else 'DIFFERS':8}{name}  {detail}", flush=True)
    if not good:
        failures.append(name)


def pair(i):
    words = ["the baker", "a fisher", "Mara", "two owls", "the old mill"]
    chosen = f"It is {words[i % 5]}" + ", so they say" * (i % 3) + "."
    return {"prompt": f"Who came at {i}?", "chosen": chosen, "rejected": f"No {words[(i + 2) % 5]} {i * i}"}


def train(hadal, at):
    """The folder of a reward model's checkpoint, and what hadal says of the held-out pairs at its end."""
    for name, numbers in (("train", range(40)), ("val", range(100, 107))):
        (at / f"{name}.jsonl").write_text("".join(json.dumps(pair(i)) + "\n" for i in numbers))

    def run(*words, **sets):
        sets = [word for key, value in sets.items() for word in ("--set", f"{key.replace('__', '.')}={value}")]
        subprocess.run([hadal, *words, "--backend", "cpu", *sets], cwd=at, check=True, capture_output=True)

    small = {"model__hidden_size": 32, "model__num_hidden_layers": 3, "model__num_attention_heads": 2}
    run("train", "--steps", "3", "--out", "base", **small, train__sequence_length=LENGTH, train__micro_batch=2)
    sets = {"train__sequence_length": LENGTH, "train__micro_batch": 4, "optimizer__learning_rate": 0.005}
    sets |= {"data__val_path": '["val.jsonl"]', "reward_model__center_rewards_coefficient": CENTRING}
    run("reward", "--model", "base", "--data", "train.jsonl", "--steps", "12", "--out", "judge", **sets)
    rows = [json.loads(line) for line in (at / "judge" / "metrics.jsonl").read_text().splitlines()]
    latest = (at / "judge" / "checkpoints" / "latest").read_text().strip()
    return at / "judge" / "checkpoints" / latest, [row for row in rows if row["split"] == "val"][-1]


def encoded(tokenizer, question, answer):
    """The conversation up to the token that ends the answer."""
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    ids = tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"]
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    return ids[: len(ids) - ids[::-1].index(end)]


@torch.no_grad()
def scores(model, rows):
    """The score of each row by itself, and of each in one batch with padding behind."""
    alone = [model(input_ids=torch.tensor([row])).logits[0, 0].item() for row in rows]
    longest, pad = max(map(len, rows)), model.config.pad_token_id
    padded = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return torch.tensor(alone).double(), model(input_ids=padded, attention_mask=mask).logits[:, 0].double()


def compare(folder, said):
    kind = {"dtype": torch.float32, "attn_implementation": "eager", "output_loading_info": True}
    model, report = AutoModelForSequenceClassification.from_pretrained(folder, **kind)
    lost = {key: sorted(names) for key, names in report.items() if names}
    check("every weight is there and known", not lost and model.config.num_labels == 1, str(lost or ""))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pairs = [pair(i) for i in range(100, 107)]
    rows = [encoded(tokenizer, one["prompt"], one[which]) for one in pairs for which in ("chosen", "rejected")]
    assert len({len(row) for row in rows}) > 3, "answers of several lengths"
    alone, batched = scores(model.eval(), rows)
    largest = alone.abs().max().item()
    apart = (alone - batched).abs().max().item()
    check("padding changes nothing", apart < NEAR * largest, f"{apart:.1e} of {largest:.3f}")
    chosen, rejected = alone[::2], alone[1::2]
    difference, total = chosen - rejected, chosen + rejected
    loss = torch.nn.functional.softplus(-difference) + CENTRING * total**2
    for name, found, expected in (
        ("rewards/chosen", said["rewards/chosen"], chosen.mean().item()),
        ("rewards/rejected", said["rewards/rejected"], rejected.mean().item()),
        ("loss", said["loss"], loss.mean().item()),
        ("rewards/accuracies", said["rewards/accuracies"], (difference > 0).double().mean().item()),
    ):
        error = abs(found - expected)
        check(name, error < NEAR * largest, f"{found:.6f} beside {expected:.6f}, {error / largest:.1e} of the largest")
    # What was compared depends on every token.
    unended = scores(model, [row[:-1] for row in rows])[0]
    least = (alone - unended).abs().min().item()
    check("without its last token each answer has another score", least > 10 * NEAR * largest, f"{least:.1e} at least")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hadal", type=Path, default=ROOT / "target" / "release" / "hadal")
    hadal = parser.parse_args().hadal.resolve()
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as at:
        compare(*train(hadal, Path(at)))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
