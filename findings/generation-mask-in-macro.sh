#!/usr/bin/env bash
# Versions: transformers 5.24.0, tokenizers 0.23.3 and Jinja2 3.1.6 on Python 3.11.
#
# Behaviour: apply_chat_template marks the assistant's tokens between the tags
# "generation" and "endgeneration". When the tags stand inside of a macro, the text
# is right, but the mask begins where the macro's output begins instead of where
# the tag stands. It keeps its length, so it covers the header and misses the
# end of the answer. A "set" block around the tags does the same.
#
# Guess: the mask covers the same characters whether a turn is written in the
# loop or by a macro, because both templates render the same text.
#
# Seen: with one token for each character, the text is "[user]hi;[bot]yes;" for
# all three templates. The loop's mask covers "yes;". The macro's mask and the
# set block's mask cover "[bot" instead. No error and no warning appears.
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

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

for name in ["transformers", "tokenizers", "jinja2"]:
    print(name, version(name))
letters = sorted(set("[user]hi;[bot]yes;"))
inner = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner)

turn = "[{{ m.role }}]{% generation %}{{ m.content }};{% endgeneration %}"
start = "{% for m in messages %}{% if m.role == 'bot' %}"
end = "{% else %}[{{ m.role }}]{{ m.content }};{% endif %}{% endfor %}"
templates = {
    "loop": start + turn + end,
    "macro": "{% macro write(m) %}" + turn + "{% endmacro %}" + start + "{{ write(m) }}" + end,
    "set": start + "{% set text %}" + turn + "{% endset %}{{ text }}" + end,
}
messages = [{"role": "user", "content": "hi"}, {"role": "bot", "content": "yes"}]
seen = {}
for name, template in templates.items():
    out = tokenizer.apply_chat_template(
        messages,
        chat_template=template,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    tokens = tokenizer.convert_ids_to_tokens(out["input_ids"])
    marked = [token for token, mask in zip(tokens, out["assistant_masks"]) if mask]
    seen[name] = ("".join(tokens), "".join(marked))
    print(name, "renders", seen[name][0], "and marks", seen[name][1])
text = "[user]hi;[bot]yes;"
if seen != {"loop": (text, "yes;"), "macro": (text, "[bot"), "set": (text, "[bot")}:
    sys.exit(f"The masks are no longer those that were seen, but {seen}.")
print("A macro moves the assistant's mask onto the header.")
PY
