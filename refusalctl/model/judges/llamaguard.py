"""Llama Guard 3 and 4 (Meta): harmfulness of the response only. They say nothing about refusal.

Input format: the tokenizer's own chat template over one user and one assistant turn (model cards in
github.com/meta-llama/PurpleLlama; Llama Guard 4 takes turns as lists of typed parts). Output: `safe`, or `unsafe` and a
line of categories S1 to S14. Licences: Llama 3.1 and Llama 4 community licences; both gated. Multilingual recall of
Llama Guard 4 on Meta's own set: 43 % (its model card).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from refusalctl.json_types import Json
from refusalctl.model.judges import qwen3guard
from refusalctl.model.judges.encoding import turns
from refusalctl.model.judges.generative import Format
from refusalctl.model.judges.protocol import MALFORMED, Declaration, Item, Verdict, harm_only, unparsed

LANGUAGES = ("de", "en", "es", "fr", "hi", "it", "pt", "th")
_ANSWER = re.compile(r"\s*(?:(safe)|unsafe\s*\n\s*S(?:[1-9]|1[0-4])(?:\s*,\s*S(?:[1-9]|1[0-4]))*)\s*")


def declaration(name: str, model: str, size: str, licence: str) -> Declaration:
    source = f"github.com/meta-llama/PurpleLlama, model card of {model.partition('/')[2]}"
    return Declaration(name, LANGUAGES, licence, source, model, size, gated=True, refusal_label=False, harm_label=True)


DECLARATION_3 = declaration("llama-guard-3", "meta-llama/Llama-Guard-3-8B", "8B", "Llama 3.1 community")
DECLARATION_4 = declaration("llama-guard-4", "meta-llama/Llama-Guard-4-12B", "12B", "Llama 4 community")


def parts(item: Item) -> Sequence[Mapping[str, Json]]:
    """The same turns, each as a list of one text part."""
    return [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in qwen3guard.roles(item)]


def parse(text: str) -> Verdict:
    found = _ANSWER.fullmatch(text)
    return harm_only(found[1] is None) if found else unparsed(MALFORMED)


FORMAT_3 = Format(turns(qwen3guard.roles), parse, max_new_tokens=32)
FORMAT_4 = Format(turns(parts), parse, max_new_tokens=32, kind="multimodal")
