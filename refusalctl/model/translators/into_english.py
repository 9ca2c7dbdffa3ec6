"""Completions into English: by NLLB-200 or MADLAD-400 on this machine (transformers or CTranslate2), Google or DeepL.

Models translate sentence by sentence, which is what they were trained on; the services get as much as they take. A
piece that fails fails its text: half a translation would be judged as if it were the whole answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from refusalctl.disk import given_folder
from refusalctl.errors import BadInput, ModelError
from refusalctl.model.files.digests import folder_digest
from refusalctl.model.translators.ctranslate import ENDING
from refusalctl.model.translators.deepl import open_deepl
from refusalctl.model.translators.google import open_google
from refusalctl.model.translators.madlad import open_madlad
from refusalctl.model.translators.nllb import code_of, open_nllb
from refusalctl.model.translators.pieces import Pieces, pieces
from refusalctl.model.translators.protocol import Outcome, Translator
from refusalctl.model.translators.sequence_models import folder_of

NLLB_MODEL = "facebook/nllb-200-distilled-600M"
MADLAD_MODEL = "google/madlad400-3b-mt"
SENTENCE, REQUEST = 400, 4500  # characters: of a sentence given to a model, of one request to a service
MODELS = {"nllb": NLLB_MODEL, "madlad": MADLAD_MODEL}
MODELS |= {f"{kind}{ENDING}": model for kind, model in MODELS.items()}  # the same models by CTranslate2
SPECS = "nllb[:MODEL], madlad[:MODEL], google or deepl; nllb-ct2 and madlad-ct2 are run by CTranslate2"


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


def _together(cut: Pieces, found: Sequence[Outcome]) -> Outcome:
    failures = [each.failed for each in found if each.text is None]
    if failures:
        return Outcome(None, failures[0])
    text = cut.joined([str(each.text) for each in found])
    return Outcome(text) if any(c.isalnum() for c in text) else Outcome(None, "empty answer")


def open_back_translator(spec: str, lang: str, code: str | None = None, device: str = "auto") -> BackTranslator:
    """`nllb[:MODEL]`, `madlad[:MODEL]`, the same with `-ct2` behind the name, `google` or `deepl`, into English.

    `code`: the translator's own code of `lang`. Raises `BadInput` for another spec or an unknown language code, and
    `ModelError` when the model, the package or the key is not there.
    """
    kind, _, model = spec.partition(":")
    ct2 = kind.endswith(ENDING)
    if kind.removesuffix(ENDING) == "nllb":
        nllb = open_nllb(model or NLLB_MODEL, "en", code, lang, device, ct2=ct2)
        return BackTranslator(nllb, SENTENCE, sentences=True)
    if kind.removesuffix(ENDING) == "madlad":
        return BackTranslator(open_madlad(model or MADLAD_MODEL, device, ct2=ct2), SENTENCE, sentences=True)
    if spec == "google":
        return BackTranslator(open_google("en", code, source=lang), REQUEST, sentences=False)
    if spec == "deepl":
        return BackTranslator(open_deepl(lang, code), REQUEST, sentences=False)
    raise BadInput(f"there is no translator {spec!r}", hint=f"give {SPECS}")


def identity(spec: str, lang: str, code: str | None = None) -> dict[str, str | None]:
    """What decides a translation, found without loading weights: translator, model files, language code.

    A hub model without a commit in `spec` is the one that the local cache or the hub has now. Raises as
    `open_back_translator`.
    """
    check_spec(spec, lang, code)
    kind, _, model = spec.partition(":")
    model = model or MODELS.get(kind, "")
    if not model:
        return {"translator": kind, "model": None, "revision": None, "code": code}
    folder = folder_of(model)
    local = given_folder(model, "the translation model") is not None
    revision = f"files-{folder_digest(folder, pickled=True)[:32]}" if local else folder.name
    return {"translator": kind, "model": folder.name if local else model, "revision": revision, "code": code}


def check_spec(spec: str, lang: str, code: str | None = None) -> None:
    """What can be found out at once. Raises as `open_back_translator`."""
    kind, _, model = spec.partition(":")
    if kind not in MODELS and spec not in ("google", "deepl"):
        raise BadInput(f"there is no translator {spec!r}", hint=f"give {SPECS}")
    if kind.removesuffix(ENDING) == "nllb":
        code_of(lang, code)
    if model.startswith((".", "/", "~")) and given_folder(model, "the translation model") is None:
        raise ModelError(f"there is no model folder {model}")
