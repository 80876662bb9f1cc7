#!/usr/bin/env bash
# Versions: tokenizers 0.23.3 and tiktoken 0.14.0 on Python 3.11.
#
# Behaviour: tokenizers compiles a Split expression with Oniguruma. There the
# plus sign of "\p{N}{1,3}+" repeats the repetition, so the expression matches a
# run of digits of any length. tiktoken reads the same expression as a possessive
# repetition and stops after three digits. After "?" the plus sign is possessive
# in tokenizers as well, so the form with braces is the exception.
#
# Guess: both libraries cut eight digits into pieces of three, three and two,
# because tiktoken writes its own cl100k_base expression in this form and a
# tokenizer.json takes the text of an expression as it is.
#
# Seen: tiktoken gives a, 111, 111, 11, b. tokenizers gives a, 11111111, b, and
# it gives a, 111, 111, 11, b only once the plus sign is removed. No error and
# no warning appears.
set -euo pipefail
export HF_HUB_OFFLINE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet tokenizers==0.23.3 tiktoken==0.14.0
"$work/venv/bin/python" - <<'PY'
import sys
from importlib.metadata import version

import tiktoken
from tokenizers import Regex, pre_tokenizers

print("tokenizers", version("tokenizers"), "tiktoken", version("tiktoken"))
text = "a" + "1" * 8 + "b"

# Every run of ones up to eight is a token, so only the expression cuts a run.
ranks = {bytes([value]): value for value in range(256)}
for length in range(2, 9):
    ranks[b"1" * length] = len(ranks)


def by_tiktoken(expression):
    encoding = tiktoken.Encoding(
        "probe", pat_str=expression, mergeable_ranks=ranks, special_tokens={}
    )
    return [encoding.decode([token]) for token in encoding.encode(text)]


def by_tokenizers(expression):
    split = pre_tokenizers.Split(Regex(expression), "isolated")
    return [piece for piece, _ in split.pre_tokenize_str(text)]


threes = ["a", "111", "111", "11", "b"]
whole = ["a", "11111111", "b"]
seen = []
for expression, wanted in [
    (r"\p{N}{1,3}+|\P{N}+", (threes, whole)),
    (r"\p{N}{1,3}|\P{N}+", (threes, threes)),
]:
    pair = (by_tiktoken(expression), by_tokenizers(expression))
    print(expression, "tiktoken", pair[0], "tokenizers", pair[1])
    seen.append(pair == wanted)
# If "?+" repeated a repetition too, the eight digits would be one piece.
optional = by_tokenizers(r"\p{N}?+\p{N}")
print(r"\p{N}?+\p{N}", "tokenizers", optional)
seen.append(optional == ["a", "11", "11", "11", "11", "b"])
if not all(seen):
    sys.exit("The two libraries no longer split the digits as they did.")
print("The same expression splits eight digits in two different ways.")
PY
