#!/usr/bin/env python3
"""Opens what `hadal export` writes of a run with adapters in PEFT, and compares logits and greedy tokens.

    cargo build --release
    python tests/golden/check_peft.py [--hadal target/release/hadal]

needs torch, safetensors, transformers and peft; checked with peft 0.21 on transformers 5.24. A short run is trained,
and adapters beside it, by `hadal sft`, once on attention and once, where queries have a latent and the vocabulary has
to grow, on attention and the head. Then

- PEFT loads the exported adapter on the exported base, without a tensor that is missing or left over, and so it does
  the checkpoint itself;
- its logits are those of the whole model that `hadal export --merge` writes, and of PEFT's own merge, within 1e-5 of
  the largest, and those of `hadal dump`; greedy tokens are equal;
- they are not those of the base.

Ends with status 1 if anything differs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import peft
import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).resolve().parent.parent.parent
NEAR = 1e-5  # of the largest logit
GREEDY = 24  # tokens
SMALL = {"model.hidden_size": 64, "model.num_hidden_layers": 3, "train.sequence_length": 64, "train.micro_batch": 4}
SMALL |= {"model.max_position_embeddings": 128, "schedule.warmup_steps": 2, "train.eval_batches": 2}
LATENT = ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj", "lm_head"]

failures = []


def check(name, good, detail=""):
    print(f"{'ok' if good else 'DIFFERS':8}{name}  {detail}", flush=True)
    if not good:
        failures.append(name)


class Hadal:
    def __init__(self, program, at):
        self.program, self.at = program, at

    def __call__(self, *arguments, sets={}):
        flags = [flag for key, value in sets.items() for flag in ("--set", f"{key}={value}")]
        done = subprocess.run([self.program, *map(str, arguments), *flags], cwd=self.at, capture_output=True, text=True)
        assert done.returncode == 0, f"{arguments}: {done.returncode}: {done.stderr}"

    def dump(self, model, inputs):
        given, out = self.at / "given.safetensors", self.at / "dumped.safetensors"
        save_file({"input_ids": inputs.contiguous(), "labels": inputs.clone()}, given)
        self("dump", "--model", model, "--input", given, "--output", out, "--backend", "cpu")
        return load_file(out)["logits"]


def load(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


def with_adapters(base, folder):
    """The base with adapters; a tensor that does not find its place is an error."""
    model = PeftModel.from_pretrained(load(base), folder)
    placed = {name: parameter for name, parameter in model.named_parameters() if "lora_" in name}
    file = load_file(folder / "adapter_model.safetensors")
    held = {name.replace(".weight", ".default.weight"): tensor for name, tensor in file.items()}
    assert placed.keys() == held.keys(), f"{folder}: {placed.keys() ^ held.keys()}"
    assert all(torch.equal(placed[name], held[name]) for name in held), folder
    return model.eval()


@torch.no_grad()
def answers(model, inputs):
    logits, tokens = model(input_ids=inputs, use_cache=False).logits, inputs[:, :8]
    for _ in range(GREEDY):
        following = model(input_ids=tokens, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
        tokens = torch.cat([tokens, following], 1)
    return logits, tokens


def near(name, found, expected):
    difference = ((found[0] - expected[0]).abs().max() / expected[0].abs().max()).item()
    check(f"{name}: logits", difference < NEAR, f"within {difference:.1e} of the largest")
    check(f"{name}: greedy tokens", torch.equal(found[1], expected[1]), f"{found[1].numel()} tokens")


def case(hadal, name, train, sets):
    run, base, adapter, merged = (hadal.at / f"{name}-{part}" for part in ("run", "base", "adapter", "merged"))
    pretrained = hadal.at / f"{name}-pretrained"
    hadal("train", "--backend", "cpu", "--steps", 20, "--out", pretrained, *train[0], sets=SMALL | train[1])
    short = {"train.sequence_length": 64, "data.path": json.dumps([str(hadal.at / "chats.jsonl")])}
    short |= {"schedule.warmup_steps": 2, "optimizer.learning_rate": 1e-2, "lora.alpha": 12} | sets
    hadal("sft", "--backend", "cpu", "--model", pretrained, "--steps", 20, "--out", run, sets=short)
    hadal("export", run, "--out", adapter)
    hadal("export", run, "--merge", "--out", merged)
    hadal("export", run / "base" if (run / "base").is_dir() else pretrained, "--out", base)
    inputs = torch.randint(3, load(base).config.vocab_size, (4, 32), generator=torch.Generator().manual_seed(1))
    whole, model = answers(load(merged), inputs), with_adapters(base, adapter)
    found = answers(model, inputs)
    near(f"{name}, adapter on its base beside the merged model", found, whole)
    (checkpoint,) = (run / "checkpoints").glob("step-*")
    near(f"{name}, a checkpoint as an adapter", answers(with_adapters(base, checkpoint), inputs), whole)
    near(f"{name}, merged by PEFT", answers(model.merge_and_unload(), inputs), whole)
    near(f"{name}, hadal dump", (hadal.dump(run, inputs), whole[1]), whole)
    alone = ((answers(load(base), inputs)[0] - whole[0]).abs().max() / whole[0].abs().max()).item()
    check(f"{name}: the base alone is another model", alone > 1e-2, f"{alone:.1e}")


def main():
    parser = argparse.ArgumentParser(description="Compares exported adapters in PEFT.")
    parser.add_argument("--hadal", default=ROOT / "target/release/hadal", type=Path)
    given = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)  # the models are too small for more
    print(f"peft {peft.__version__}, transformers {transformers.__version__}, torch {torch.__version__}, {given.hadal}")
    with tempfile.TemporaryDirectory() as at:
        hadal = Hadal(given.hadal.resolve(), Path(at))
        chat = lambda i: {"messages": [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": f"{i}."}]}
        (Path(at) / "chats.jsonl").write_text("".join(json.dumps(chat(i)) + "\n" for i in range(200)))
        case(hadal, "attention", ([], {}), {"lora.rank": 8})
        head = {"lora.rank": 4, "lora.targets": json.dumps(LATENT)}
        case(hadal, "head", (["--tokenizer", "byte"], {"model.q_lora_rank": 16, "model.vocab_size": 0}), head)
    print(f"{len(failures)} differences" + "".join(f"\n    {name}" for name in failures))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
