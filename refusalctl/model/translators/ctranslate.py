"""NLLB and MADLAD by CTranslate2 on a CPU: the same weights and greedy answers, without Python between the tokens.

A model is converted once into the cache, in float32, so that texts are those of transformers; the proof is in
`tests/model/translators/test_ctranslate.py`. Recipes name the engine all the same: last bits may differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusalctl.disk import build_folder
from refusalctl.errors import ModelError
from refusalctl.model.files import embedded
from refusalctl.model.files.digests import folder_digest
from refusalctl.model.files.gguf_file import UNWRITABLE

if TYPE_CHECKING:
    from refusalctl.model.transformers_types import Tokenizer

ENDING = "-ct2"  # of a translator's kind: nllb-ct2, madlad-ct2
CONVERSION = 1  # raise when `_convert` changes what it writes


@dataclass
class Engine:
    """A converted model. `start`: the token that its decoder begins with, which answers of transformers hold too."""

    translator: Any
    start: int

    def write(
        self, tokenizer: Tokenizer, texts: Sequence[str], max_new_tokens: int, forced_bos_token_id: int | None = None
    ) -> list[list[int]]:
        """What `sequence_models.write` gives: ids with the decoder's start, the forced first token, and the end."""
        rows = [tokenizer.convert_ids_to_tokens(ids) for ids in tokenizer(list(texts))["input_ids"]]
        forced = [] if forced_bos_token_id is None else [tokenizer.convert_ids_to_tokens(forced_bos_token_id)]
        found = self.translator.translate_batch(
            rows,
            target_prefix=[forced] * len(rows) if forced else None,
            beam_size=1,
            max_decoding_length=max_new_tokens,
            max_input_length=0,  # it would cut at 1024 tokens without a word
            return_end_token=True,
        )
        return [[self.start, *_ids(tokenizer, each.hypotheses[0])] for each in found]


def _ids(tokenizer: Tokenizer, tokens: Sequence[str]) -> list[int]:
    """Without rows of the embedding that no token has: the converter gives them names, and they are no text."""
    found = (tokenizer.convert_tokens_to_ids(token) for token in tokens)
    return [i for i in found if i is not None]


def open_engine(folder: Path, what: str, start: int) -> Engine:
    """The model of a folder, converted on first use. Raises `ModelError` without the package, or if it fails."""
    try:
        import ctranslate2
    except ImportError as error:
        raise ModelError(
            f"the translator {what} needs the package ctranslate2", hint="run `pip install refusalctl[translate]`"
        ) from error
    from refusalctl.model.load_errors import loading

    place = embedded.cache_dir() / f"ct2-{folder_digest(folder, pickled=True)[:32]}-v{CONVERSION}"
    made = build_folder(place, "model.bin", lambda target: _convert(folder, what, target), UNWRITABLE)
    with loading(what):
        return Engine(ctranslate2.Translator(str(made), device="cpu", compute_type="float32"), start)


def _convert(folder: Path, what: str, target: Path) -> None:
    from ctranslate2.converters import TransformersConverter

    from refusalctl.model.load_errors import loading

    with loading(what, folder):
        TransformersConverter(str(folder)).convert(str(target), quantization="float32", force=True)
