#!/usr/bin/env python3
"""Writes begin/cases.json: tokenizers that begin texts in different ways, and the ids that transformers makes of one.

Needs transformers 5.24 with tokenizers 0.23. Usage: make_begin.py [OUT]
"""

import json
import pathlib
import sys
import tempfile

from transformers import AutoTokenizer

TEXT = "ab ba"
SPECIAL = ["<s>", "</s>", "<x>"]


def tokenizer(post_processor):
    """A byte-level vocabulary of a few letters with three special tokens."""
    letters = ["a", "b", "c", "Ġ", "ab", "Ġb"]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    vocab = {text: number for number, text in enumerate(SPECIAL + letters)}
    added = [
        {"id": vocab[text], "content": text, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for text in SPECIAL
    ]
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
             "vocab": vocab, "merges": [["a", "b"], ["Ġ", "b"]]}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": level, "post_processor": post_processor, "decoder": level, "model": model}


def template(before, after=()):
    """The post-processor that puts these tokens around a text."""
    def part(name):
        return {"SpecialToken": {"id": name, "type_id": 0}}

    def text(name):
        return {"Sequence": {"id": name, "type_id": 0}}

    def framed(name):
        return [part(t) for t in before] + [text(name)] + [part(t) for t in after]

    special = {t: {"id": t, "ids": [SPECIAL.index(t)], "tokens": [t]} for t in [*before, *after]}
    return {"type": "TemplateProcessing", "single": framed("A"), "pair": framed("A") + framed("B"),
            "special_tokens": special}


BYTES = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
POST = {
    "none": None,
    "bytes": BYTES,
    "text alone": template([]),
    "begin": template(["<s>"]),
    "begin and end": template(["<s>"], ["</s>"]),
    "another": template(["<x>"]),
    "two": template(["<x>", "<s>"]),
    "a sequence": {"type": "Sequence", "processors": [BYTES, template(["<s>"])]},
    "RoBERTa": {"type": "RobertaProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0], "trim_offsets": True,
                "add_prefix_space": False},
}
CLASSES = ["PreTrainedTokenizerFast", "LlamaTokenizerFast", "TokenizersBackend"]


def main():
    here = pathlib.Path(__file__).parent
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here / "begin"
    cases = []
    for name, post in POST.items():
        for flag in [None, True, False]:
            ids = []
            config = {"bos_token": "<s>", "eos_token": "</s>"} | ({} if flag is None else {"add_bos_token": flag})
            for cls in CLASSES:
                with tempfile.TemporaryDirectory() as folder:
                    folder = pathlib.Path(folder)
                    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(post)))
                    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": cls}))
                    ids.append(AutoTokenizer.from_pretrained(folder)(TEXT).input_ids)
            assert all(other == ids[0] for other in ids), (name, flag, ids)
            cases.append({"name": name, "post_processor": post, "config": config, "ids": ids[0]})
    text = json.dumps({"text": TEXT, "tokenizer": tokenizer(None), "cases": cases}, ensure_ascii=False)
    (out / "cases.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
