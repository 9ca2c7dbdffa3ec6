"""Translators of completions into English: NLLB-200 or MADLAD-400 on this machine, Google, or DeepL with a key.

Models translate sentence by sentence, which is what they were trained on; the services get as much as they take. A
piece that fails fails its text: half a translation would be judged as if it were the whole answer.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from refusalctl.errors import BadInput, ModelError
from refusalctl.model.files.resolve import fetch, folder_digest
from refusalctl.model.translators.from_english import (
    NLLB_CODES,
    Outcome,
    Translator,
    google,
    model_name,
    nllb,
    open_model,
    outcome,
)
from refusalctl.model.translators.pieces import pieces

NLLB_MODEL = "facebook/nllb-200-distilled-600M"
MADLAD_MODEL = "google/madlad400-3b-mt"
SENTENCE, REQUEST = 400, 4500  # characters: of a sentence given to a model, of one request to a service
KEY = "DEEPL_AUTH_KEY"
SPECS = "nllb[:MODEL], madlad[:MODEL], google or deepl"


@dataclass
class Madlad:
    """MADLAD-400 (Kudugunta et al. 2023, arXiv 2309.04662): T5 that reads `<2en>` and finds the source out itself."""

    model: Any
    tokenizer: Any
    name: str
    batch: int = 16
    max_new_tokens: int = 512

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
        import torch

        from refusalctl.model.judges.encoding import neutral

        texts = [f"<2en> {neutral(self.tokenizer, text)}" for _, text in pairs]
        inputs = self.tokenizer(texts, return_tensors="pt", padding=True).to(self.model.device)
        with torch.inference_mode():
            ids = self.model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                forced_eos_token_id=None,  # a forced end would make a cut answer look finished
                max_new_tokens=self.max_new_tokens,
                max_length=None,
                num_beams=1,
                do_sample=False,
            )
        return [self._answer(row[1:]) for row in ids.tolist()]  # after the decoder's start

    def _answer(self, written: list[int]) -> Outcome:
        if self.tokenizer.eos_token_id not in written:
            return Outcome(None, f"not finished after {self.max_new_tokens} tokens")
        return outcome(self.tokenizer.decode(written, skip_special_tokens=True))


@dataclass
class DeepL:
    """DeepL's official client. It retries by itself; what stays a failure of the service stops the run."""

    client: Any
    source: str
    name: str = "deepl"
    batch: int = 16

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
        import deepl

        try:
            found = self.client.translate_text([t for _, t in pairs], source_lang=self.source, target_lang="EN-US")
        except deepl.DeepLException as error:
            raise ModelError(
                f"DeepL does not translate ({type(error).__name__})",
                hint=f"check the quota and {KEY}; finished texts are kept",
            ) from error
        return [outcome(each.text) for each in found]


@dataclass
class BackTranslator:
    """Whole completions through a translator that takes pieces of at most `limit` characters."""

    inner: Translator
    limit: int
    sentences: bool

    @property
    def name(self) -> str:
        return self.inner.name

    @cached_property
    def batch(self) -> int:
        return self.inner.batch

    def __call__(self, texts: Sequence[str]) -> list[Outcome]:
        cut = [pieces(text, self.limit, sentences=self.sentences) for text in texts]
        wanted = list(dict.fromkeys(piece for each in cut for piece in each.flat))
        wanted.sort(key=len)  # alike lengths in a batch: less padding
        known = {piece: Outcome(piece) for piece in wanted if not any(c.isalpha() for c in piece)}  # numbers, rules
        todo = [piece for piece in wanted if piece not in known]
        for start in range(0, len(todo), self.batch):
            batch = todo[start : start + self.batch]
            known |= zip(batch, self.inner([(piece, piece) for piece in batch]), strict=True)
        return [_together(each, [known[piece] for piece in each.flat]) for each in cut]


def _together(cut: Any, found: Sequence[Outcome]) -> Outcome:
    failures = [each.failed for each in found if each.text is None]
    if failures:
        return Outcome(None, failures[0])
    text = cut.joined([str(each.text) for each in found])
    return Outcome(text) if any(c.isalnum() for c in text) else Outcome(None, "empty answer")


def open_back_translator(spec: str, lang: str, code: str | None = None, device: str = "auto") -> BackTranslator:
    """`nllb[:MODEL]`, `madlad[:MODEL]`, `google` or `deepl`, from `lang` into English.

    `code`: the translator's own code of `lang`. Raises `BadInput` for another spec or an unknown language code, and
    `ModelError` when the model, the package or the key is not there.
    """
    kind, _, model = spec.partition(":")
    if kind == "nllb":
        return BackTranslator(nllb(model or NLLB_MODEL, "en", code, lang, device), SENTENCE, sentences=True)
    if kind == "madlad":
        return BackTranslator(_madlad(model or MADLAD_MODEL, device), SENTENCE, sentences=True)
    if spec == "google":
        return BackTranslator(google("en", code, source=lang), REQUEST, sentences=False)
    if spec == "deepl":
        return BackTranslator(_deepl(lang, code), REQUEST, sentences=False)
    raise BadInput(f"there is no translator {spec!r}", hint=f"give {SPECS}")


def identity(spec: str, lang: str, code: str | None = None) -> dict[str, str | None]:
    """What decides a translation, found without loading weights: translator, model files, language code.

    A hub model without a commit in `spec` is the one that the local cache or the hub has now. Raises as
    `open_back_translator`.
    """
    check_spec(spec, lang, code)
    kind, _, model = spec.partition(":")
    model = model or {"nllb": NLLB_MODEL, "madlad": MADLAD_MODEL}.get(kind, "")
    if not model:
        return {"translator": kind, "model": None, "revision": None, "code": code}
    if Path(model).is_dir():
        folder = Path(model).resolve()
        return {
            "translator": kind,
            "model": folder.name,
            "revision": f"files-{folder_digest(folder)[:32]}",
            "code": code,
        }
    return {"translator": kind, "model": model, "revision": fetch(model, None, small=True).name, "code": code}


def check_spec(spec: str, lang: str, code: str | None = None) -> None:
    """What can be found out at once. Raises as `open_back_translator`."""
    kind, _, model = spec.partition(":")
    if kind not in ("nllb", "madlad") and spec not in ("google", "deepl"):
        raise BadInput(f"there is no translator {spec!r}", hint=f"give {SPECS}")
    if kind == "nllb" and not code and lang not in NLLB_CODES:
        raise BadInput(f"NLLB's code of {lang!r} is not known here", hint="give it with --code, such as kaz_Cyrl")
    if model.startswith((".", "/", "~")) and not Path(model).expanduser().is_dir():
        raise ModelError(f"there is no model folder {model}")


def _madlad(spec: str, device: str) -> Madlad:
    model, tokenizer = open_model(spec, device)
    if tokenizer.convert_tokens_to_ids("<2en>") in (None, tokenizer.unk_token_id):
        raise ModelError(f"the tokenizer of {spec} has no token <2en>", hint="give a MADLAD-400 translation model")
    return Madlad(model, tokenizer, model_name("madlad", spec, model))


def _deepl(lang: str, code: str | None) -> DeepL:
    try:
        import deepl
    except ImportError as error:
        raise ModelError(
            "the translator 'deepl' needs the package deepl", hint="run `pip install refusalctl[translate]`"
        ) from error
    key = os.environ.get(KEY)
    if not key:
        raise ModelError("DeepL needs a key", hint=f"put it into the environment: {KEY}")
    return DeepL(deepl.DeepLClient(key), (code or lang).upper())
