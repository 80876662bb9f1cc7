#!/usr/bin/env python3
"""Writes chat/forms.json and the vocabularies chat/VOCABULARY.json: the token ids and the masks that transformers makes
of conversations, for the public forms of chats and vocabularies of five kinds; and chat/expressions.json: what Jinja2,
as transformers sets it up, makes of expressions.

    python tests/golden/make_forms.py

needs transformers and tokenizers; made with transformers 5.24, tokenizers 0.23 and Jinja2 3.1.6.
"""

import json
import os
from pathlib import Path

from chat_expressions import EXPRESSIONS
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent / "chat"
TEXTS = [
    "the cat sat on the mat and the dog ran to the house", "hello world, how are you today?", "I am well, thank you.",
    "User: hello there\n\nAssistant: hi",
    "### Instruction:\nWhat is it?\n\n### Response:\nIt is.", "[INST] hello [/INST]",
    "user\nassistant\nsystem\nmodel\n", "One morning a bird sang; the river was cold.", "numbers 1 2 3 42\n\n",
] * 9
SPECIAL = [
    "<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "<start_of_turn>", "<end_of_turn>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
    "<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>",
]
# As Phi's file has them: they take the spaces after them.
STRIPPED = {"<|system|>", "<|user|>", "<|assistant|>", "<|end|>"}
PLAIN = ["<think>", "</think>"]
LINES = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

CHATML = """{% for m in messages %}
<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}"""
FORMS = {
    "chatml": CHATML,
    "llama_2": """{% for m in messages -%}
    {% if m.role == 'system' -%}
        {{ bos_token + '[INST] <<SYS>>\\n' + m.content + '\\n<</SYS>>\\n\\n' }}
    {%- elif m.role == 'user' -%}
        {%- if loop.first or messages[loop.index0 - 1].role != 'system' %}{{ bos_token + '[INST] ' }}{% endif -%}
        {{ m.content.strip() + ' [/INST]' }}
    {%- else %}{{ ' ' ~ m.content.strip() ~ ' ' ~ eos_token }}{% endif %}
{%- endfor %}""",
    "llama_3": """{{- bos_token }}
{%- for m in messages %}
    {{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + m['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}""",
    "mistral": """{%- set rules = messages[0].content if messages[0].role == 'system' else none %}
{%- set ns = namespace(last=0) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{{- bos_token }}
{%- for m in messages %}
    {%- if m.role == 'user' and loop.index0 == ns.last and rules is not none %}
        {{- '[INST] ' + rules + '\\n\\n' + m.content + '[/INST]' }}
    {%- elif m.role == 'user' %}
        {{- '[INST] ' + m.content + '[/INST]' }}
    {%- elif m.role == 'assistant' %}
        {{- ' ' + m.content | trim + eos_token }}
    {%- endif %}
{%- endfor %}""",
    "zephyr": """{% for m in messages %}
{{ '<|' + m.role + '|>\\n' + m.content + eos_token }}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}

{% endif %}
{% endfor %}""",
    "gemma": """{{ bos_token }}{% for m in messages %}
{% if m.role == 'system' %}
<start_of_turn>user
{{ m.content | trim }}

{% else %}
{% if loop.first or messages[loop.index0 - 1].role != 'system' %}
<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}
{% endif %}
{{ m.content | trim }}<end_of_turn>
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
<start_of_turn>model
{% endif %}""",
    "phi": """{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}""",
    "deepseek_v2": """{{ bos_token }}{% for m in messages %}
{%- if m.role == 'system' %}{{ m.content + '\\n\\n' }}
{%- elif m.role == 'user' %}{{ 'User: ' + m.content + '\\n\\n' }}
{%- else %}{{ 'Assistant: ' + m.content + eos_token }}{% endif %}
{%- endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}""",
    "deepseek_v3": """{%- set ns = namespace(rules='') %}
{%- for m in messages %}{% if m.role == 'system' %}{% set ns.rules = ns.rules + m.content %}{% endif %}{% endfor %}
{{- bos_token + ns.rules }}
{%- for m in messages %}
    {%- if m.role == 'user' %}{{ '<\uff5cUser\uff5c>' + m.content }}{% endif %}
    {%- if m.role == 'assistant' %}{{ '<\uff5cAssistant\uff5c>' + m.content + eos_token }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<\uff5cAssistant\uff5c>' }}{% endif %}""",
    "qwen_2": """{% if messages[0]['role'] != 'system' %}
{{ '<|im_start|>system\\nYou are a helpful cat.<|im_end|>\\n' }}
{%- endif %}
""" + CHATML,
    "qwen_3": """{%- set ns = namespace(asked=messages|length - 1) %}
{%- for m in messages[::-1] %}
    {%- if m.role == 'user' and ns.asked == messages|length - 1 %}
        {%- set ns.asked = messages|length - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for m in messages %}
    {{- '<|im_start|>' + m.role + '\\n' }}
    {%- if m.role == 'assistant' and loop.index0 > ns.asked %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
    {{- m.content.lstrip('\\n') + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}""",
    "alpaca": """{{ bos_token }}{% for m in messages %}
{% if m.role == 'system' %}
{{ m.content }}

{% elif m.role == 'user' %}
### Instruction:
{{ m.content }}

{% else %}
### Response:
{{ m.content }}{{ eos_token }}

{% endif %}
{% endfor %}
{% if add_generation_prompt %}
### Response:
{% endif %}""",
}
MARKED = {
    "chatml": """{% for m in messages %}
{% if m.role == 'assistant' %}
<|im_start|>assistant
{% generation %}
{{ m.content }}<|im_end|>
{% endgeneration %}
{% else %}
<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}""",
    "llama_3": """{{- bos_token }}
{%- for m in messages %}
    {{- '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' }}
    {%- if m.role == 'assistant' %}
        {%- generation %}{{- m.content | trim + '<|eot_id|>' }}{%- endgeneration %}
    {%- else %}{{- m.content | trim + '<|eot_id|>' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}""",
    "deepseek_v2": """{{ bos_token }}{% for m in messages %}
{%- if m.role == 'system' %}{{ m.content + '\\n\\n' }}
{%- elif m.role == 'user' %}{{ 'User: ' + m.content + '\\n\\n' }}
{%- else %}{{ 'Assistant: ' }}{% generation %}{{ m.content + eos_token }}{% endgeneration %}{% endif %}
{%- endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}""",
}
CONVERSATIONS = [
    [("user", "hello")],
    [("user", "hello"), ("assistant", "hi")],
    [("system", "You are the cat."), ("user", "How are you today?"), ("assistant", "I am well, thank you.")],
    [("user", "the cat"), ("assistant", "sat on the mat"), ("user", "the dog"), ("assistant", "ran to the house"),
     ("user", "One morning")],
    [("system", "numbers 1 2 3"), ("user", " what is 42?\n"), ("assistant", "a na\u00efve caf\u00e9 \U0001f431"),
     ("user", "the\n\nriver "),
     ("assistant", "was cold.\n")],
    [("user", "say </s> or <|im_end|> or <|user|> or <\uff5cUser\uff5c>"), ("assistant", "no <|im_start|>"),
     ("user", "<s>")],
]


def vocabulary(kind):
    special = [AddedToken(t, special=True, normalized=False, rstrip=t in STRIPPED) for t in SPECIAL]
    if kind in ("bytes", "lines"):
        t = Tokenizer(models.BPE())
        t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        if kind == "lines":  # as Llama 3's and Qwen's: line feeds stay together
            split = pre_tokenizers.Split(Regex(LINES), "isolated")
            t.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=420, special_tokens=special, show_progress=False, initial_alphabet=alphabet
        )
        t.train_from_iterator(TEXTS, trainer)
    else:
        t = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=kind != "legacy")
        letters = [f"<0x{i:02X}>" for i in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=460, show_progress=False, special_tokens=special + letters)
        t.train_from_iterator(TEXTS, trainer)
    t.add_tokens([AddedToken(name, normalized=False) for name in PLAIN])
    j = json.loads(t.to_str())
    j["added_tokens"] = [a for a in j["added_tokens"] if not a["content"].startswith("<0x")]
    meta = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": kind, "split": True}
    if kind == "legacy":
        prepend = {"type": "Prepend", "prepend": "\u2581"}
        replace = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
        j["pre_tokenizer"], j["normalizer"] = None, {"type": "Sequence", "normalizers": [prepend, replace]}
        parts = [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}]
        strip = [{"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]
        j["decoder"] = {"type": "Sequence", "decoders": parts + strip}
    elif kind not in ("bytes", "lines"):
        j["pre_tokenizer"], j["decoder"] = meta, meta
    return j


def messages(pairs):
    return [{"role": role, "content": content} for role, content in pairs]


def forms():
    cells = []
    for kind in ("bytes", "lines", "legacy", "first", "always"):
        j = vocabulary(kind)
        (HERE / f"{kind}.json").write_text(json.dumps(j, ensure_ascii=False, separators=(",", ":")) + "\n")
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(json.dumps(j)), bos_token="<s>", eos_token="</s>", unk_token="<unk>")
        for name, template in FORMS.items():
            for i, pairs in enumerate(CONVERSATIONS):
                both = []
                for prompt in (False, True):
                    options = {"chat_template": template, "add_generation_prompt": prompt, "return_dict": False}
                    both.append(tokenizer.apply_chat_template(messages(pairs), **options))
                cells.append([kind, name, i, *both])
        for name, template in MARKED.items():
            for i, pairs in enumerate(CONVERSATIONS[1:5], 1):
                options = {"chat_template": template, "return_assistant_tokens_mask": True, "return_dict": True}
                made = tokenizer.apply_chat_template(messages(pairs), **options)
                cells.append([kind, "marked " + name, i, made["input_ids"], made["assistant_masks"]])
    every = {**FORMS, **{"marked " + name: form for name, form in MARKED.items()}}
    return {"forms": every, "conversations": CONVERSATIONS, "cells": cells}




def expressions():
    plain = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>", eos_token="</s>")
    made = []
    for expression in EXPRESSIONS:
        template = "{{ " + expression + " }}|{{ messages[0].content }}"
        try:
            text = plain.apply_chat_template(messages([("user", "c")]), chat_template=template, tokenize=False)
        except Exception as error:
            print("left out:", expression, type(error).__name__, error)
            continue
        made.append([expression, text])
    return made


os.environ["TZ"] = "UTC"
HERE.mkdir(exist_ok=True)
for name, content in (("forms", forms()), ("expressions", expressions())):
    (HERE / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")
