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
are compared. And from text to text: what `hadal sample` says greedily is what transformers says of the export, for the
embedded vocabulary, GPT-2's, one whose texts begin with another token than they end with, and one in the style of
Llama's; also of folders that transformers wrote, imported or not, and of prompts in a batch. Ends with status 1 if
anything differs.
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
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

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

    def says(self, *arguments):
        done = subprocess.run([self.program, *map(str, arguments)], cwd=self.at, capture_output=True, text=True)
        assert done.returncode == 0, f"{arguments}: {done.returncode}: {done.stderr}"
        return done.stdout

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
    check("a run: texts begin with its EOS token", ids[0] == tokenizer.eos_token_id == tokenizer.bos_token_id)
    said = tokenizer.decode(ids, skip_special_tokens=True)
    check("a run: its tokenizer gives back a text", said == "One morning the baker met the miller.")
    plain = tokenizer(text, add_special_tokens=False)["input_ids"]
    again = tokenizer.decode(plain, clean_up_tokenization_spaces=False)
    check("a run: its tokenizer gives back an odd text", again == text)
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}, {"role": "user", "content": "?"}]
    rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    turns = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in chat)
    check("a run: its chat template", rendered == turns + "<|im_start|>assistant\n", repr(rendered))
    tokens = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    alone = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    check("a run: chats get no token before them", tokens == alone and tokens[0] != tokenizer.bos_token_id)
    inputs = torch.tensor([ids])
    found = answers(load(out), inputs)
    (checkpoint,) = (hadal.at / "run/checkpoints").glob("step-*")
    same("a run beside its own checkpoint", found, answers(load(checkpoint), inputs))
    near("a run, hadal dump", dumped(hadal, "run", inputs), found[0])


SPECIAL = ["<s>", "</s>", "<x>"]  # ids 0, 1, 2
WORDS = ["the cat sat on the mat and the dog ran to the house", "one morning a bird sang; the river was cold."] * 50
PROMPTS = ["", "the cat", "one morning a", "The dog's naïve 12 river", "  two  spaces\n"]


def bytes_vocabulary():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    kind = {"special_tokens": SPECIAL, "show_progress": False, "initial_alphabet": alphabet}
    made.train_from_iterator(WORDS, trainers.BpeTrainer(vocab_size=340, **kind))
    return json.loads(made.to_str())


def marked_vocabulary():
    """In the style of Llama's: spaces are marks, one before the text, and bytes stand in for unknown characters."""
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    special = SPECIAL + ["<unk>"] + [f"<0x{i:02X}>" for i in range(256)]
    made.train_from_iterator(WORDS, trainers.BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False))
    file = json.loads(made.to_str())
    file["added_tokens"] = [token for token in file["added_tokens"] if not token["content"].startswith("<0x")]
    file["pre_tokenizer"] = None
    mark = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    file["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, mark]}
    back = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    parts = [back, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]
    file["decoder"] = {"type": "Sequence", "decoders": parts}
    return file


def tokenizer_folder(at, file, **keys):
    at.mkdir()
    (at / "tokenizer.json").write_text(json.dumps(file))
    (at / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"} | keys))
    return at


@torch.no_grad()
def texts(hadal, name, model, folder):
    """From text to text: what `hadal sample` of `model` says, and transformers of `folder`, alone and in a batch."""
    tokenizer, network = AutoTokenizer.from_pretrained(folder), load(folder)
    equal, batched = 0, 0
    for prompt in PROMPTS:
        said = json.loads(hadal.says("sample", model, "--prompt", prompt, "--temperature", "0", "--tokens", GREEDY,
                                     "--json", "--backend", "cpu"))
        given = tokenizer(prompt, return_tensors="pt")
        ids = given["input_ids"].long()
        if ids.shape[1] == 0:
            ids = torch.tensor([[tokenizer.bos_token_id]])
        out = network.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=GREEDY)[0]
        new = out[ids.shape[1] :].tolist()
        ends = network.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        kept = [token for token in new if token not in ends]
        whole = tokenizer.decode(out, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        good = said["tokens"] == kept and said["prompt"] + said["text"] == whole
        equal += good
        if not good:
            print(f"        {prompt!r}: hadal {said['tokens']} {said['text']!r}, transformers {kept} {whole!r}")
    check(f"{name}: text to text", equal == len(PROMPTS), f"{equal} of {len(PROMPTS)} prompts")
    if tokenizer.pad_token is not None:
        write = pipeline("text-generation", model=network, tokenizer=tokenizer, batch_size=2)
        kind = {"do_sample": False, "max_new_tokens": GREEDY, "return_full_text": True}
        alone = [write(prompt, **kind)[0]["generated_text"] for prompt in PROMPTS[1:]]
        batched = [each[0]["generated_text"] for each in write(PROMPTS[1:], **kind)]
        check(f"{name}: a batch", alone == batched, f"padded with {tokenizer.pad_token}")


def from_text_to_text(hadal):
    """Vocabularies of every kind, trained for a few steps and exported; and a folder that transformers wrote."""
    (hadal.at / "words.txt").write_text("\n".join(WORDS))
    small = ["hidden_size=32", "num_hidden_layers=2", "num_attention_heads=2"]
    small = [word for key in small for word in ("--set", f"model.{key}")]
    small += ["--set", "data.val_fraction=0", "--set", "train.sequence_length=64", "--set", "train.micro_batch=4"]
    folders = {
        "bytes": tokenizer_folder(hadal.at / "bytes", bytes_vocabulary()),
        "Llama's style": tokenizer_folder(hadal.at / "marked", marked_vocabulary(), unk_token="<unk>"),
    }
    named = {"world": "world", "gpt2": "gpt2", **folders}
    for number, (name, tokenizer) in enumerate(named.items()):
        run = f"texts-{number}"
        hadal("train", "--data", "words.txt", "--tokenizer", tokenizer, "--steps", "8", "--out", run,
              "--backend", "cpu", "--set", "schedule.warmup_steps=1", *small)
        out = hadal.copy("export", run)
        texts(hadal, name, run, out)
        if name in folders:
            again = hadal.at / f"saved-{number}"
            load(out).save_pretrained(again)
            AutoTokenizer.from_pretrained(out).save_pretrained(again)
            texts(hadal, f"{name}, saved by transformers", again, again)
            texts(hadal, f"{name}, and imported", again, hadal.copy("import", again))


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
        from_text_to_text(hadal)
    print(f"{len(failures)} differences" + "".join(f"\n    {name}" for name in failures))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
