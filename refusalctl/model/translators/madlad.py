"""MADLAD-400 (Kudugunta et al. 2023, arXiv 2309.04662) on this machine, into English."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refusalctl.errors import ModelError
from refusalctl.model.control_tokens import neutral
from refusalctl.model.translators.protocol import Outcome
from refusalctl.model.translators.sequence_models import MAX_NEW_TOKENS, model_name, open_model, translation, write

if TYPE_CHECKING:
    from refusalctl.model.transformers_types import LanguageModel, Tokenizer
    from refusalctl.model.translators.ctranslate import Engine


@dataclass
class Madlad:
    """A T5 that reads `<2en>` and finds the source language out itself."""

    model: LanguageModel | Engine
    tokenizer: Tokenizer
    name: str
    batch: int = 16
    max_new_tokens: int = MAX_NEW_TOKENS

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
        texts = [f"<2en> {neutral(self.tokenizer, text)}" for _, text in pairs]
        rows = write(self.model, self.tokenizer, texts, self.max_new_tokens)
        # after the decoder's start
        return [translation(self.tokenizer, row[1:], self.max_new_tokens) for row in rows]


def open_madlad(spec: str, device: str = "auto", *, ct2: bool = False) -> Madlad:
    """A hub id (`org/name`) or a local folder; `ct2`: run by CTranslate2.

    Raises `ModelError` if it is no MADLAD-400 model.
    """
    model, tokenizer, folder = open_model(spec, device, ct2=ct2)
    if tokenizer.convert_tokens_to_ids("<2en>") in (None, tokenizer.unk_token_id):
        raise ModelError(f"the tokenizer of {spec} has no token <2en>", hint="give a MADLAD-400 translation model")
    return Madlad(model, tokenizer, model_name("madlad-ct2" if ct2 else "madlad", spec, folder))
