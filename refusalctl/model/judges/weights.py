"""A judge's weights: found on this machine or the hub, loaded, and given back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from refusalctl.disk import given_folder
from refusalctl.errors import ModelError
from refusalctl.model.judges.protocol import Declaration

if TYPE_CHECKING:
    from refusalctl.model.transformers_types import LanguageModel, Tokenizer

_AUTOS = {
    "generative": "AutoModelForCausalLM",
    "multimodal": "AutoModelForImageTextToText",
    "classifier": "AutoModelForSequenceClassification",
}


@dataclass(frozen=True)
class Settings:
    """Where and how judges run. `batch_size` is also how many requests an endpoint gets at once."""

    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = 16
    url: str | None = None
    timeout: float = 60.0
    retries: int = 6


@dataclass(frozen=True)
class JudgeModel:
    """A judge's model on this machine. `revision` identifies its files."""

    name: str
    folder: Path
    revision: str
    hub: bool

    def complete(self) -> Path:
        """The folder with the weights, fetched now if they belong to a hub model."""
        from refusalctl.model.files.resolve import fetch

        return fetch(self.name, self.revision) if self.hub else self.folder

    def unchanged(self) -> None:
        """Raise `ModelError` where a folder's files are no longer those that `revision` names."""
        from refusalctl.model.files.digests import folder_digest

        if not self.hub and self.revision != f"files-{folder_digest(self.folder)[:32]}":
            raise ModelError(f"the files of the judge's model {self.name} changed after it was looked up")


def find(declaration: Declaration, given: str | None) -> JudgeModel:
    """The model that the user named, or the declared one. Raises `ModelError` saying what to request or install."""
    from refusalctl.model.files.resolve import fetch, folder_digest

    spec = given or str(declaration.model)
    folder = given_folder(spec, "--judge-model")
    if folder is not None:
        return JudgeModel(folder.name, folder, f"files-{folder_digest(folder)[:32]}", hub=False)
    if spec.count("/") != 1 or spec.startswith((".", "/", "~")):
        raise ModelError(
            f"there is no model {spec!r} for the judge {declaration.name!r}",
            hint="--judge-model takes a local folder or a Hugging Face id (org/name)",
        )
    name, _, revision = spec.partition("@")
    try:
        folder = fetch(name, revision or None, small=True)
    except ModelError as error:
        raise ModelError(
            f"the judge {declaration.name!r} needs {name}: {error.message}", hint=_what_to_do(declaration)
        ) from error
    return JudgeModel(name, folder, folder.name, hub=True)


def _what_to_do(declaration: Declaration) -> str:
    steps = [f"accept the conditions on the model page of {declaration.model}, then `hf auth login`"]
    steps = steps if declaration.gated else [f"fetch it with `hf download {declaration.model}`"]
    return f"{steps[0]}; or point --judge-model at a local folder"


def digest(declaration: Declaration, model: str, revision: str, dtype: str) -> str:
    """What decides a model judge's verdicts: its format and parser (by version), its weights and their dtype."""
    facts = [declaration.name, declaration.version, model, revision, dtype]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def load(found: JudgeModel, settings: Settings, kind: str) -> tuple[LanguageModel, Tokenizer]:
    """Model (in eval mode) and tokenizer. `kind` is generative, multimodal or classifier.

    Raises `ModelError`, also where a tensor was not in the checkpoint: a head that nobody trained gives labels too.
    """
    from refusalctl.model.load import pick_device, pick_dtype
    from refusalctl.model.pretrained import Wanted, check_vocabulary, open_tokenizer, open_weights

    what = f"the judge's model {found.name}"
    folder = found.complete()
    device = pick_device(settings.device, shard=True)
    opened = open_weights(folder, what, Wanted((_AUTOS[kind],), device, pick_dtype(settings.dtype, settings.device)))
    tokenizer = open_tokenizer(folder, what)
    check_vocabulary(opened.model, tokenizer, what)
    found.unchanged()
    return opened.model, tokenizer


def foresee(found: JudgeModel, settings: Settings, kind: str) -> None:
    """Raise what `load` would raise, as far as headers and settings show it; of a hub model nothing is here yet."""
    if found.hub:
        return
    from refusalctl.model.load import pick_dtype
    from refusalctl.model.pretrained import META, Wanted, check_vocabulary, open_tokenizer, open_weights

    what = f"the judge's model {found.name}"
    wanted = Wanted((_AUTOS[kind],), META, pick_dtype(settings.dtype, settings.device))
    check_vocabulary(open_weights(found.folder, what, wanted).model, open_tokenizer(found.folder, what), what)


def context(model: LanguageModel, tokenizer: Tokenizer) -> int:
    """Longest input in tokens that model and tokenizer both allow."""
    config = model.config.get_text_config()
    limits = [getattr(config, "max_position_embeddings", None), getattr(tokenizer, "model_max_length", None)]
    return min(int(limit) for limit in limits if limit)
