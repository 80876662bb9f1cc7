#!/usr/bin/env bash
# Versions: transformers 5.24.0, tokenizers 0.23.3 and Jinja2 3.1.6 on Python 3.11.
#
# Behaviour: the expression that is built into the ByteLevel pre-tokenizer keeps
# two newlines together at the end of a text, but parts them before a letter. A
# template that ends the assistant's header with two newlines therefore gives a
# prompt whose ids do not start the ids of the whole conversation, although its
# text does start the text of the whole conversation.
#
# Guess: the ids of the prompt with add_generation_prompt=True are a prefix of
# the ids of the conversation as long as the answer starts with a plain letter,
# because special tokens and newlines part the header from the answer.
#
# Seen: the prompt ends with one token for both newlines, and the conversation
# has two tokens of one newline at the same place. A Split on runs of newlines
# before ByteLevel without its own expression makes the prompt a prefix again.
set -euo pipefail
export HF_HUB_OFFLINE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet transformers==5.24.0 tokenizers==0.23.3 \
  jinja2==3.1.6 numpy==2.4.6 huggingface_hub==2.4.0
"$work/venv/bin/python" - <<'PY'
import sys
from importlib.metadata import version

from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

for name in ["transformers", "tokenizers", "jinja2"]:
    print(name, version(name))
newline = "\u010a"  # ByteLevel writes a newline byte as this character.
template = (
    "{% for m in messages %}<|begin|>{{ m.role }}<|end|>\n\n{{ m.content }}<|stop|>{% endfor %}"
    "{% if add_generation_prompt %}<|begin|>assistant<|end|>\n\n{% endif %}"
)
messages = [
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "Because."},
]


def ids(pre_tokenizer, count, prompt):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet()) + [newline * 2]
    vocabulary = {token: i for i, token in enumerate(letters)}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[(newline, newline)]))
    inner.add_special_tokens(["<|begin|>", "<|end|>", "<|stop|>"])
    inner.pre_tokenizer = pre_tokenizer
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner)
    chat = dict(chat_template=template, add_generation_prompt=prompt)
    text = tokenizer.apply_chat_template(messages[:count], tokenize=False, **chat)
    out = tokenizer.apply_chat_template(messages[:count], return_dict=True, **chat)
    return text, tokenizer.convert_ids_to_tokens(out["input_ids"])


byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
runs = pre_tokenizers.Split(Regex(r"\n+"), "isolated")
plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
seen = []
for name, pre in [("built-in", byte_level), ("runs", pre_tokenizers.Sequence([runs, plain]))]:
    short, prompt = ids(pre, 1, True)
    long, whole = ids(pre, 2, False)
    place = len(prompt) - 1
    print(name, "prompt ends", prompt[place:], "conversation has", whole[place : place + 2])
    seen.append((long.startswith(short), whole[: len(prompt)] == prompt, prompt[place]))
if seen != [(True, False, newline * 2), (True, True, newline * 2)]:
    sys.exit(f"The prompt's ids no longer relate to the conversation's as seen: {seen}.")
print("The prompt's text starts the conversation's text, but its ids do not.")
PY
