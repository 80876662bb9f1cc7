#!/usr/bin/env bash
# Versions: tokenizers 0.23.3 on Python 3.11.
#
# Behaviour: a tokenizer whose post-processor adds two special tokens does not
# truncate at all when the limit is smaller than two. A limit of two leaves two
# tokens, and a limit of one lets the whole text through.
#
# Guess: a limit of one gives one token, or two (the special tokens alone), or an
# error. Nobody expects that a smaller limit gives a longer result.
#
# Seen: for a text of four words, the limits 4, 3 and 2 give 4, 3 and 2 tokens.
# The limits 1 and 0 give 6 tokens, which are the whole text and both special
# tokens. With add_special_tokens=False each limit from 4 to 0 is kept.
set -euo pipefail
export HF_HUB_OFFLINE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet tokenizers==0.23.3
"$work/venv/bin/python" - <<'PY'
import sys
from importlib.metadata import version

from tokenizers import Tokenizer, models, pre_tokenizers, processors

print("tokenizers", version("tokenizers"))
words = ["one", "two", "three", "four", "<s>", "</s>"]
tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "one"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.post_processor = processors.TemplateProcessing(
    single="<s> $A </s>", special_tokens=[("<s>", 4), ("</s>", 5)]
)

lengths, plain = {}, {}
for limit in [4, 3, 2, 1, 0]:
    tokenizer.enable_truncation(max_length=limit)
    tokens = tokenizer.encode("one two three four").tokens
    bare = tokenizer.encode("one two three four", add_special_tokens=False).tokens
    print("limit", limit, "gives", tokens, "and, without special tokens,", bare)
    lengths[limit], plain[limit] = len(tokens), len(bare)
if plain != {4: 4, 3: 3, 2: 2, 1: 1, 0: 0}:
    sys.exit("The limit is no longer kept where no special tokens are added.")
if lengths != {4: 4, 3: 3, 2: 2, 1: 6, 0: 6}:
    sys.exit(f"The limits no longer give the lengths that were seen, but {lengths}.")
print("A limit of one lets the whole text through.")
PY
