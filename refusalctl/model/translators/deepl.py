"""DeepL, with a key, into English."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from refusalctl.errors import ModelError
from refusalctl.model.translators.protocol import Outcome, outcome

KEY = "DEEPL_AUTH_KEY"


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


def open_deepl(lang: str, code: str | None = None) -> DeepL:
    """From `lang`, into English; `code` is DeepL's own. Raises `ModelError` without the package or the key."""
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
