"""NLLB-200 (NLLB Team 2022, arXiv 2207.04672) on this machine, into English or from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refusalctl.errors import BadInput, ModelError
from refusalctl.model.control_tokens import neutral
from refusalctl.model.translators.protocol import Outcome
from refusalctl.model.translators.sequence_models import MAX_NEW_TOKENS, model_name, open_model, translation, write

if TYPE_CHECKING:
    from refusalctl.model.transformers_types import LanguageModel, Tokenizer
    from refusalctl.model.translators.ctranslate import Engine

CODES: dict[str, str] = {
    "ar": "arb_Arab",
    "ba": "bak_Cyrl",
    "be": "bel_Cyrl",
    "de": "deu_Latn",
    "en": "eng_Latn",
    "es": "spa_Latn",
    "fr": "fra_Latn",
    "it": "ita_Latn",
    "ja": "jpn_Jpan",
    "ko": "kor_Hang",
    "nl": "nld_Latn",
    "pl": "pol_Latn",
    "ru": "rus_Cyrl",
    "tg": "tgk_Cyrl",
    "th": "tha_Thai",
    "yi": "ydd_Hebr",
    "yo": "yor_Latn",
    "zh": "zho_Hans",
}


@dataclass
class Nllb:
    """A sequence-to-sequence model with NLLB's language codes."""

    model: LanguageModel | Engine
    tokenizer: Tokenizer
    code: str
    name: str
    batch: int = 16
    max_new_tokens: int = MAX_NEW_TOKENS

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
        texts = [neutral(self.tokenizer, text) for _, text in pairs]  # a text may hold language codes and end tokens
        code = self.tokenizer.convert_tokens_to_ids(self.code)
        rows = write(self.model, self.tokenizer, texts, self.max_new_tokens, forced_bos_token_id=code)
        return [self._answer(row) for row in rows]

    def _answer(self, ids: list[int]) -> Outcome:
        written = ids[2:]  # after the decoder's start, which NLLB shares with the end token, and the language
        return translation(self.tokenizer, written, self.max_new_tokens)


def open_nllb(
    spec: str,
    lang: str,
    code: str | None = None,
    source: str = "en",
    device: str = "auto",
    *,
    ct2: bool = False,
) -> Nllb:
    """Open a hub id (`org/name`) or a local folder, from `source` into `lang`; `code` is the other language's, `ct2`
    runs it by CTranslate2.

    Raises `ModelError` if it cannot be read or its tokenizer lacks the code, `BadInput` for a language without a known
    code.
    """
    other = source if lang == "en" else lang
    wanted = code_of(other, code)
    begin, end = (wanted, "eng_Latn") if lang == "en" else ("eng_Latn", wanted)
    model, tokenizer, folder = open_model(spec, device, ct2=ct2, src_lang=begin)
    unknown = [c for c in ("eng_Latn", wanted) if tokenizer.convert_tokens_to_ids(c) in (None, tokenizer.unk_token_id)]
    if unknown:
        raise ModelError(f"the tokenizer of {spec} has no language code {unknown[0]}", hint="give an NLLB-200 model")
    return Nllb(model, tokenizer, end, model_name("nllb-ct2" if ct2 else "nllb", spec, folder))


def code_of(lang: str, code: str | None = None) -> str:
    """NLLB's code of a language, or `code` where it is given. Raises `BadInput` where neither is known."""
    known = code or CODES.get(lang)
    if known is None:
        raise BadInput(f"NLLB's code of {lang!r} is not known here", hint="give it with --code, such as kaz_Cyrl")
    return known
