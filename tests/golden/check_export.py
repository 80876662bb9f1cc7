#!/usr/bin/env python3
"""Opens what `hadal export` and `hadal import` write in transformers, and compares logits and greedy generations.

    cargo build --release
    python tests/golden/check_export.py [--hadal target/release/hadal] [--oracle ../shared/oracle]

needs torch, safetensors and transformers; checked with 5.23 and with 4.57. For every model in this folder, and in the
folder of larger reference models if it is there:

- exported in f32, in one file and in several: logits differ by 0 from those of the original, greedy tokens are equal;
- exported in f16 and bf16: the same beside the original rounded to that type;
- imported from a folder with fused experts, and exported again: 0, equal;
- logits by `hadal dump` of the exported folder beside those of transformers: within 1e-4 of the largest;
- models that transformers cannot represent: refused with exit code 2, and written with --force.

At last a short training run is exported: its tokenizer gives back texts, its chat template is rendered, and its logits
are compared. Ends with status 1 if anything differs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
GREEDY = 24  # tokens generated from each prompt
NEAR = 1e-4  # of the largest logit: two programs that add in another order
VERSION = tuple(int(n) for n in transformers.__version__.split(".")[:2])
SCALES_SCORES = VERSION >= (5, 15)  # by mscale_all_dim
OLD = VERSION < (5, 0)  # does not know rope_parameters, in which these folders have their scaling; exports can be read

failures = []


def check(name, good, detail=""):
    print(f"{'ok' if good else 'DIFFERS':8}{name}  {detail}", flush=True)
    if not good:
        failures.append(name)


def load(folder):
    kind = {"dtype": torch.float32, "attn_implementation": "eager"}
    model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **kind)
    lost = [report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if report[key]]
    assert not lost, f"{folder}: {lost}"
    for parameter in model.parameters():  # where a mapped file happens to have it decides how sums are ordered
        parameter.data = parameter.data.clone()
    return model.eval()


@torch.no_grad()
def answers(model, inputs):
    """Logits of the batch, and what follows greedily on the first half of each row, by the plain loop."""
    logits = model(input_ids=inputs, use_cache=False).logits
    tokens = inputs[:, : inputs.shape[1] // 2]
    limit = min(GREEDY, model.config.max_position_embeddings - tokens.shape[1])
    for _ in range(limit):
        following = model(input_ids=tokens, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
        tokens = torch.cat([tokens, following], 1)
    ends = {"eos_token_id": None, "pad_token_id": 0}
    prompt = inputs[:, : inputs.shape[1] // 2]
    generated = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=limit, **ends
    )
    return logits, tokens, generated


def same(name, found, expected):
    difference = (found[0].double() - expected[0].double()).abs().max().item()
    check(f"{name}: logits", difference == 0, f"largest difference {difference:g}")
    for what, a, b in (("loop", found[1], expected[1]), ("generate", found[2], expected[2])):
        check(f"{name}: greedy tokens, {what}", torch.equal(a, b), f"{a.numel()} tokens")


def fuse(source, folder):
    """The same model with a layer's experts in two tensors."""
    folder.mkdir()
    (folder / "config.json").write_text((source / "config.json").read_text())
    tensors = load_file(source / "model.safetensors")
    for prefix in {name.rsplit(".0.gate_proj", 1)[0] for name in tensors if ".experts.0.gate_proj" in name}:
        count = sum(name.startswith(f"{prefix}.") and name.endswith("gate_proj.weight") for name in tensors)
        take = lambda part: [tensors.pop(f"{prefix}.{e}.{part}.weight") for e in range(count)]
        both = [torch.cat(pair) for pair in zip(take("gate_proj"), take("up_proj"))]
        tensors[f"{prefix}.gate_up_proj"] = torch.stack(both)
        tensors[f"{prefix}.down_proj"] = torch.stack(take("down_proj"))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


class Hadal:
    def __init__(self, program, at):
        self.program, self.at = program, at

    def __call__(self, *arguments, code=0):
        done = subprocess.run([self.program, *map(str, arguments)], cwd=self.at, capture_output=True, text=True)
        assert done.returncode == code, f"{arguments}: {done.returncode}: {done.stderr}"
        return done.stderr

    def copy(self, command, source, *flags):
        out = Path(tempfile.mkdtemp(dir=self.at)) / "out"
        self(command, source, "--out", out, *flags)
        return out


def dumped(hadal, model, inputs):
    given, out = hadal.at / "given.safetensors", hadal.at / "dumped.safetensors"
    save_file({"input_ids": inputs.contiguous(), "labels": inputs.clone()}, given)
    hadal("dump", "--model", model, "--input", given, "--output", out, "--backend", "cpu")
    return load_file(out)["logits"]


def near(name, found, expected):
    difference = ((found - expected).abs().max() / expected.abs().max()).item()
    check(name, difference < NEAR, f"largest difference {difference:.1e} of the largest")


def case(hadal, name, folder):
    inputs = load_file(folder / "expected.safetensors")["input_ids"]
    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] == "hadal":
        error = hadal("export", folder, "--out", hadal.at / "refused", code=2)
        forced = hadal.copy("export", folder, "--force")
        load(forced)
        key = "scoring_func" if config.get("scoring_func") == "sigmoid" else "router_weights"
        check(f"{name}: refused, and opened after --force", key in error)
        return
    exported = hadal.copy("export", folder)
    source = exported if OLD and config["rope_parameters"]["rope_type"] != "default" else folder
    expected = answers(load(source), inputs)
    found = answers(load(exported), inputs)
    same(f"{name}, f32", found, expected)
    scaled = "mscale_all_dim" in json.dumps(config)
    if SCALES_SCORES or not scaled:
        near(f"{name}, hadal dump", dumped(hadal, exported, inputs), found[0])
        near(f"{name}, expected.safetensors", load_file(folder / "expected.safetensors")["logits"].float(), found[0])
    same(f"{name}, shards", answers(load(hadal.copy("export", folder, "--shard-size", "9000")), inputs), expected)
    for flag, dtype in (("f16", torch.float16), ("bf16", torch.bfloat16)):
        rounded = load(source)
        for parameter in rounded.parameters():  # and no buffer: frequencies are computed in f32
            parameter.data = parameter.data.to(dtype).float()
        half = hadal.copy("export", folder, "--dtype", flag)
        same(f"{name}, {flag}", answers(load(half), inputs), answers(rounded, inputs))
    fuse(folder, hadal.at / f"fused-{name.replace('/', '-')}")
    imported = hadal.copy("import", hadal.at / f"fused-{name.replace('/', '-')}")
    same(f"{name}, fused and imported", answers(load(imported), inputs), expected)
    same(f"{name}, exported again", answers(load(hadal.copy("export", imported)), inputs), expected)


def a_run(hadal):
    """From training to a tokenizer, a template and logits."""
    hadal("train", "--steps", "20", "--out", "run", "--backend", "cpu")
    out = hadal.copy("export", "run")
    tokenizer = AutoTokenizer.from_pretrained(out)
    text = "One morning, naïve  words\n\tand <|im_end|> 12345 \U0001f600"
    ids = tokenizer("One morning the baker met the miller.")["input_ids"]
    check("a run: its tokenizer gives back a text", tokenizer.decode(ids) == "One morning the baker met the miller.")
    again = tokenizer.decode(tokenizer(text)["input_ids"], clean_up_tokenization_spaces=False)
    check("a run: its tokenizer gives back an odd text", again == text)
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}, {"role": "user", "content": "?"}]
    rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    turns = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in chat)
    check("a run: its chat template", rendered == turns + "<|im_start|>assistant\n", repr(rendered))
    inputs = torch.tensor([ids])
    found = answers(load(out), inputs)
    (checkpoint,) = (hadal.at / "run/checkpoints").glob("step-*")
    same("a run beside its own checkpoint", found, answers(load(checkpoint), inputs))
    near("a run, hadal dump", dumped(hadal, "run", inputs), found[0])


def main():
    parser = argparse.ArgumentParser(description="Compares exported models in transformers.")
    parser.add_argument("--hadal", default=ROOT / "target/release/hadal", type=Path)
    parser.add_argument("--oracle", default=ROOT.parent / "shared/oracle", type=Path)
    given = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)  # the models are too small for more
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, {given.hadal}")
    folders = {f.name: f for f in sorted(HERE.iterdir()) if (f / "expected.safetensors").is_file()}
    if given.oracle.is_dir():
        known = sorted(given.oracle.iterdir())
        folders |= {f"oracle/{f.name}": f for f in known if (f / "expected.safetensors").is_file()}
    else:
        print(f"SKIPPED: {given.oracle} is absent; --oracle names the folder of the larger models")
    with tempfile.TemporaryDirectory() as at:
        hadal = Hadal(given.hadal.resolve(), Path(at))
        for name, folder in folders.items():
            case(hadal, name, folder.resolve())
        a_run(hadal)
    print(f"{len(failures)} differences" + "".join(f"\n    {name}" for name in failures))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
