#!/usr/bin/env python3
"""Compares answers of `hadal serve` by lm_eval's generate_until with those of transformers on the exported model.

    cargo build --release
    python tests/serve/check_lm_eval.py [--hadal target/release/hadal] [--model runs/sft-1]

needs lm_eval with its extras hf and api; checked with 0.4.13, transformers 5.24 and torch 2.15. Without --model it
trains and fine-tunes a tiny model on the CPU first. The model is exported, and 12 questions of the embedded world's
chats are asked four ways: by /v1/completions with tokens, by /v1/chat/completions, and both by `--model hf`. Ends with
status 1 unless all 12 answers are equal both ways.

By itself lm_eval asks the two by other tokens: `hf` puts the tokens that a text begins with before every prompt, also
before chats whose template has none, and `local-completions` before none. So both are told what the model learnt from:
`add_bos_token=True` for completions, `add_bos_token=False` for chats.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import lm_eval
from lm_eval.tasks import TaskManager

TASK = """
task: hadal_chats
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n\\n"], max_gen_toks: 24, do_sample: false, temperature: 0}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""


def questions(hadal, at, count):
    """Stories and questions on them, the first of each of the world's chats."""
    chats = at / "chats.jsonl"
    wanted = ["--kind", "chat", "--stories", "60", "--seed", "5", "--out", chats]
    subprocess.run([hadal, "data", "world", *wanted], check=True)
    found = []
    for line in chats.read_text().splitlines():
        first, second = json.loads(line)["messages"][:2]
        if len(first["content"]) < 400:
            found.append({"question": first["content"], "answer": second["content"]})
    (at / "test.jsonl").write_text("".join(json.dumps(one) + "\n" for one in found[:count]))


def answers(at, model, arguments, chat):
    result = lm_eval.simple_evaluate(
        model=model, model_args=arguments, tasks=["hadal_chats"], log_samples=True, apply_chat_template=chat,
        task_manager=TaskManager(include_path=str(at)), bootstrap_iters=0,
    )
    samples = sorted(result["samples"]["hadal_chats"], key=lambda sample: sample["doc_id"])
    return [sample["resps"][0][0] for sample in samples]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hadal", default="target/release/hadal")
    parser.add_argument("--model")
    parser.add_argument("--steps", default="150")
    args = parser.parse_args()
    hadal, at = str(Path(args.hadal).resolve()), Path(tempfile.mkdtemp())
    run = lambda *words: subprocess.run([hadal, *words], check=True, stderr=subprocess.DEVNULL)
    model = args.model
    if model is None:
        run("train", "--backend", "cpu", "--steps", args.steps, "--out", str(at / "base"))
        model = str(at / "sft")
        run("sft", "--backend", "cpu", "--steps", args.steps, "--model", str(at / "base"), "--out", model)
    run("export", model, "--out", str(at / "hf"))
    questions(hadal, at, 12)
    (at / "task.yaml").write_text(TASK.format(data=at / "test.jsonl"))
    command = [hadal, "serve", model, "--port", "0", "--name", "m", "--backend", "cpu"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        address = next("http" + line.strip().rsplit(" http", 1)[1] for line in server.stderr if " listens on " in line)
        shared = f"model=m,tokenizer={at / 'hf'},tokenizer_backend=huggingface,max_length=256,add_bos_token=True"
        texts = answers(at, "local-completions", f"{shared},num_concurrent=4,base_url={address}/completions", False)
        chat = f"model=m,num_concurrent=4,base_url={address}/chat/completions"
        chats = answers(at, "local-chat-completions", chat, True)
    finally:
        server.terminate()
    own = f"pretrained={at / 'hf'},dtype=float32,device=cpu"
    judged = [answers(at, "hf", f"{own},add_bos_token={not chat}", chat) for chat in (False, True)]
    wrong = False
    for name, found, expected in [("completions", texts, judged[0]), ("chat", chats, judged[1])]:
        equal = sum(a == b for a, b in zip(found, expected, strict=True))
        print(f"{name}: {equal} of {len(expected)} answers equal, {sum(map(bool, expected))} of them not empty")
        for a, b in zip(found, expected):
            if a != b:
                print(f"  {a!r} by hadal, {b!r} by transformers")
        wrong |= equal != len(expected)
    sys.exit(wrong)


if __name__ == "__main__":
    main()
