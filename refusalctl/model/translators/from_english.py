"""Translators between English and another language: Google's public service, or an NLLB model on this machine.

Prompts are translated from English, completions back into it; DeepL and MADLAD are in `into_english.py`.

A translator takes pairs of id and English text and returns, in their order, a text or the reason why there is
none. A failure is never text: a published run passed the words "Translation failed" on to its judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from refusalctl.errors import BadInput, ModelError

NLLB_CODES: dict[str, str] = {
    "ar": "arb_Arab", "ba": "bak_Cyrl", "be": "bel_Cyrl", "de": "deu_Latn", "en": "eng_Latn", "es": "spa_Latn",
    "fr": "fra_Latn", "it": "ita_Latn", "ja": "jpn_Jpan", "ko": "kor_Hang", "nl": "nld_Latn", "pl": "pol_Latn",
    "ru": "rus_Cyrl", "tg": "tgk_Cyrl", "th": "tha_Thai", "yi": "ydd_Hebr", "yo": "yor_Latn", "zh": "zho_Hans",
}  # fmt: skip
GOOGLE_CODES = {"zh": "zh-CN"}  # all others are the language's own code
MAX_NEW_TOKENS = 512


class Outcome(NamedTuple):
    """A translation, or why there is none."""

    text: str | None
    failed: str = ""


class Translator(Protocol):
    """`name` goes into the source of every row; `batch` is how many pairs to hand over at once."""

    name: str
    batch: int

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]: ...


def outcome(text: str | None) -> Outcome:
    """An answer as an outcome: one without a letter or digit is a failure."""
    plain = " ".join((text or "").split())
    return Outcome(plain) if any(c.isalnum() for c in plain) else Outcome(None, "empty answer")


@dataclass
class Google:
    """Google's public translation page, through deep_translator, one text per request."""

    target: Any
    name: str = "google"
    batch: int = 1

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
        return [self._one(text) for _, text in pairs]

    def _one(self, text: str) -> Outcome:
        import requests
        from deep_translator.exceptions import BaseError, RequestError, TooManyRequests

        try:
            return outcome(self.target.translate(text))
        except BaseError as error:  # this text has no translation; the next may have
            return Outcome(None, type(error).__name__)
        except (TooManyRequests, RequestError, requests.RequestException) as error:
            raise ModelError(
                f"Google's translation service does not answer ({type(error).__name__})",
                hint="run the same command again later; finished rows are kept",
            ) from error


def google(lang: str, code: str | None = None, source: str = "en") -> Google:
    """From `source` into `lang`; `code` is Google's own code of whichever is not English.

    Raises `ModelError` when deep_translator is not installed or does not know the language.
    """
    try:
        from deep_translator import GoogleTranslator
        from deep_translator.exceptions import BaseError
    except ImportError as error:
        raise ModelError(
            "the translator 'google' needs the package deep-translator",
            hint="run `pip install refusalctl[translate]`",
        ) from error
    try:
        ends = ["en" if each == "en" else code or GOOGLE_CODES.get(each, each) for each in (source, lang)]
        return Google(GoogleTranslator(source=ends[0], target=ends[1]))
    except BaseError as error:
        other = source if lang == "en" else lang
        raise ModelError(
            f"deep-translator does not offer {other!r} at Google", hint="use --translator nllb:MODEL or file:FILE"
        ) from error


@dataclass
class Nllb:
    """A sequence-to-sequence model with NLLB's language codes, decoded greedily in batches.

    An answer that has not ended after `max_new_tokens` is a failure, not a cut text.
    """

    model: Any
    tokenizer: Any
    code: str
    name: str
    batch: int = 16
    max_new_tokens: int = MAX_NEW_TOKENS

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
        import torch

        from refusalctl.model.judges.encoding import neutral

        texts = [neutral(self.tokenizer, text) for _, text in pairs]  # a text may hold language codes and end tokens
        inputs = self.tokenizer(texts, return_tensors="pt", padding=True).to(self.model.device)
        with torch.inference_mode():
            ids = self.model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                forced_bos_token_id=self.tokenizer.convert_tokens_to_ids(self.code),
                forced_eos_token_id=None,  # a forced end would make a cut answer look finished
                max_new_tokens=self.max_new_tokens,
                max_length=None,
                num_beams=1,
                do_sample=False,
            )
        return [self._answer(row) for row in ids.tolist()]

    def _answer(self, ids: list[int]) -> Outcome:
        written = ids[2:]  # after the decoder's start, which NLLB shares with the end token, and the language
        if self.tokenizer.eos_token_id not in written:
            return Outcome(None, f"not finished after {self.max_new_tokens} tokens")
        return outcome(self.tokenizer.decode(written, skip_special_tokens=True))


def nllb(spec: str, lang: str, code: str | None = None, source: str = "en", device: str = "auto") -> Nllb:
    """Open a hub id (`org/name`) or a local folder, from `source` into `lang`; `code` is the other language's.

    Raises `ModelError` if it cannot be read or its tokenizer lacks the code, `BadInput` for a language without a known
    code.
    """
    other = source if lang == "en" else lang
    wanted = code or NLLB_CODES.get(other)
    if wanted is None:
        raise BadInput(f"NLLB's code of {other!r} is not known here", hint="give it with --code, such as kaz_Cyrl")
    begin, end = (wanted, "eng_Latn") if lang == "en" else ("eng_Latn", wanted)
    model, tokenizer = open_model(spec, device, src_lang=begin)
    unknown = [c for c in ("eng_Latn", wanted) if tokenizer.convert_tokens_to_ids(c) in (None, tokenizer.unk_token_id)]
    if unknown:
        raise ModelError(f"the tokenizer of {spec} has no language code {unknown[0]}", hint="give an NLLB-200 model")
    return Nllb(model, tokenizer, end, model_name("nllb", spec, model))


def model_name(family: str, spec: str, model: Any) -> str:
    """The model's name without a path of this machine, and its hub commit where there is one."""
    commit = getattr(model.config, "_commit_hash", None)
    name = f"{family}:{Path(spec).resolve().name if Path(spec).is_dir() else spec}"
    return f"{name}@{commit[:12]}" if commit else name


def open_model(spec: str, device: str = "auto", **settings: Any) -> tuple[Any, Any]:
    """A translation model in eval mode, and its tokenizer. Raises `ModelError`."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    from refusalctl.model.load import pick_device

    try:
        tokenizer = AutoTokenizer.from_pretrained(spec, padding_side="right", **settings)
        model = AutoModelForSeq2SeqLM.from_pretrained(spec).to(pick_device(device)).eval()
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{spec} cannot be opened as a translation model ({type(error).__name__})",
            hint="give a folder or a Hugging Face id such as facebook/nllb-200-distilled-600M",
        ) from error
    return model, tokenizer
