#!/usr/bin/env python3
"""Writes chat/text.json: what transformers makes of conversations with assets/chatml.jinja, and with a template in
the style of published ones; `--check RUN_OR_CHECKPOINT` opens a fine-tuned checkpoint and compares its chat template,
its special tokens and where generation ends.

    python tests/golden/make_chat.py [--check runs/sft-1/checkpoints/step-00003000]

needs transformers and tokenizers, and torch for --check; made with transformers 5.24.
"""

import argparse
import json
from pathlib import Path

from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent
CHATML = (HERE.parent.parent / "assets/chatml.jinja").read_text()
STYLE = """{{ bos_token }}{% for m in messages %}
    {% if m['role'] == 'user' %}
[Q] {{ m['content'].strip() }} [/Q]
    {% else %}
{{ m['content'] | trim }}{{ eos_token }}
    {%- endif %}
{% endfor %}
"""
CONVERSATIONS = [
    [("user", "Hi"), ("assistant", "Yo")],
    [("system", "Be"), ("user", " a\n"), ("assistant", ""), ("user", "<|im_start|>x"), ("assistant", "é\n")],
    [("user", "open")],
]


def messages(pairs):
    return [{"role": role, "content": content} for role, content in pairs]


def check(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokenizer.chat_template == CHATML and model.generation_config.eos_token_id == end, "template or end"
    asked = messages([("user", "Where does Mara live?")])
    text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    prompt = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
    assert prompt.input_ids[0, 0] == tokenizer.convert_tokens_to_ids("<|im_start|>"), "the mark is not one token"
    answer = model.generate(**prompt, do_sample=False, max_new_tokens=24)[0, prompt.input_ids.shape[1]:]
    print(tokenizer.decode(answer))
    assert answer[-1] == end, "the answer does not end"


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--check", type=Path)
arguments = parser.parse_args()
if arguments.check:
    check(arguments.check)
    raise SystemExit
plain = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>", eos_token="<s>")
cases = []
for template in (CHATML, STYLE):
    for pairs in CONVERSATIONS:
        for prompt in (False, True):
            options = {"chat_template": template, "tokenize": False, "add_generation_prompt": prompt}
            cases.append(plain.apply_chat_template(messages(pairs), **options))
content = {"style": STYLE, "conversations": CONVERSATIONS, "texts": cases}
(HERE / "chat").mkdir(exist_ok=True)
(HERE / "chat/text.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")
