#!/usr/bin/env python3
"""Writes splits.json: how the tokenizers library, whose expressions are Oniguruma's, cuts odd texts by expressions.

Of each class of characters it has how many characters the class holds, and their sum.
Needs tokenizers 0.23. Usage: make_splits.py [OUT]
"""

import json
import pathlib
import random
import sys

from tokenizers import Regex, pre_tokenizers

EXPRESSIONS = [
    r"\w+", r"\W+", r"[\w']+", r"[^\w\s]+", r"\p{Word}+", r"[[:word:]]+", r"[[:punct:]]", r"[^[:punct:]]+",
    r"[[:^punct:]]+", r"\p{Punct}+", r"[[:alpha:]]+", r"[[:alnum:][:space:]]+", r"[[:upper:]][[:lower:]]*",
    r"[[:graph:]]+", r"[[:print:]]+", r"[[:blank:]]+", r"[[:digit:]]{1,3}", r"[[:xdigit:]]+", r"[[:ascii:]]+",
    r"[[:cntrl:]]", r"[\p{Word}x]+", r"[^\p{Punct}\w]+", r"a$", r"\s+$", r"^a", r"^", r"$", r"^\s*",
    r"(?:^|x)a", r"(?m)a.b", r"(?m:a.)b?.", r"(?-m)a.",
    r"a.b", r".+", r"\Aa", r"a\z", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"(?i)k|s", r"(?i:[a-ck])", r"a{1,2}+b",
    r"\p{N}{1,3}+",
    r"a+?b", r"a{1,2}?", r"[a-z&&[^b]]+", r"[^a-z&&[^b]]+", r"[a[b]]+", r"[]a]+", r"\x41|\x{e9}|\u00b2", r"\v",
    r"a*", r"x*", r"a|b|", r"\s+(?!\S)|\s+", r"\p{L}++\p{N}", r"\s++$", r"\s++$|\s", r"[ab]++$",
    r"[^\r\n\p{L}\p{N}]?+\p{L}+",
    r"a*+b|a", r"\p{Han}+", r"\p{Greek}+|\p{Lu}", r"\P{L}+", r"\d+", r"\D+", r"\S+", r"[^\S\n]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+|"
    r" ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+",
]
CLASSES = [
    r"\w", r"\d", r"\s", r"\p{L}", r"\p{N}", r"\p{P}", r"\p{M}", r"\p{Word}", r"\p{Punct}", r"\p{Graph}", r"\p{Print}",
    *(f"[[:{name}:]]" for name in ["alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print",
                                   "punct", "space", "upper", "word", "xdigit"]),
]
HAND = [
    "a²b½c", "a。b！c。d", "ab a\nab a\nx", "a  \nb  \nc  ", "a\na b\na c\n", "\n\na\n", "", "a", "xa\nxa^a$a",
    "I'LL don't 'S'ſ we'Ve K ſs", "12345 67 a1b2 ２３", "a\r\nb\rc\u2028d\u0085e\x0bf",
    "ΑΒγ Ünï 你好 e\u0301 \u200d\u203f_",
    "aaab aab ab b", "  tabs\t\t \n \n\n  end   ",
]
ALPHABET = "aabcXk'sd 12²½٣ ⅷ  \n\n\r\t.,_-!$+é\u0301ßſK你。！\u00a0\u2003\u2028\u200d\u203f\U0001f980"


def split(expression, text):
    """The lengths, in characters, of what a text is cut into."""
    return [len(part) for part, _ in pre_tokenizers.Split(Regex(expression), "isolated").pre_tokenize_str(text)]


def class_of(expression):
    """How many characters a class holds, and the sum of their numbers."""
    every = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    step = 1 << 14
    held = 0, 0
    for start in range(0, len(every), step):
        some = every[start:start + step]
        cut = pre_tokenizers.Split(Regex(expression), "removed").pre_tokenize_str("".join(some))
        found = set(some) - set("".join(part for part, _ in cut))
        held = held[0] + len(found), held[1] + sum(map(ord, found))
    return held


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent
    random.seed(7)
    texts = HAND + ["".join(random.choices(ALPHABET, k=40)) for _ in range(25)]
    splits = {expression: [split(expression, text) for text in texts] for expression in EXPRESSIONS}
    classes = {expression: class_of(expression) for expression in CLASSES}
    text = json.dumps({"texts": texts, "splits": splits, "classes": classes}, ensure_ascii=False, separators=(",", ":"))
    (out / "splits.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
