"""Sequence-to-sequence models on this machine: opened, named, and decoded greedily in batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from refusalctl.disk import given_folder
from refusalctl.errors import ModelError
from refusalctl.model.translators.ctranslate import Engine, open_engine
from refusalctl.model.translators.protocol import Outcome, outcome

if TYPE_CHECKING:
    from refusalctl.model.transformers_types import LanguageModel, Tokenizer

MAX_NEW_TOKENS = 512


def write(
    model: LanguageModel | Engine, tokenizer: Tokenizer, texts: Sequence[str], max_new_tokens: int, **options: Any
) -> list[list[int]]:
    """The ids that the model writes for each text, its decoder's start included."""
    if isinstance(model, Engine):
        return model.write(tokenizer, texts, max_new_tokens, **options)
    import torch
    from transformers.generation.logits_process import LogitsProcessorList

    from refusalctl.model.finite import AllFinite

    finite = AllFinite()
    inputs = tokenizer(list(texts), return_tensors="pt", padding=True).to(model.device)
    with torch.inference_mode():
        ids = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            forced_eos_token_id=None,  # a forced end would make a cut answer look finished
            max_new_tokens=max_new_tokens,
            max_length=None,
            num_beams=1,
            do_sample=False,
            logits_processor=LogitsProcessorList([finite]),
            **options,
        )
    finite.require(model, "translating")
    written: list[list[int]] = ids.tolist()
    return written


def translation(tokenizer: Tokenizer, written: list[int], max_new_tokens: int) -> Outcome:
    """Ids as text; an answer that has not ended after `max_new_tokens` is a failure, not a cut text."""
    if tokenizer.eos_token_id not in written:
        return Outcome(None, f"not finished after {max_new_tokens} tokens")
    return outcome(tokenizer.decode(written, skip_special_tokens=True))


def model_name(family: str, spec: str, folder: Path) -> str:
    """The model's name without a path of this machine, and its hub commit where there is one."""
    place = given_folder(spec, "the translation model")
    if place is not None:
        return f"{family}:{place.name}"
    return f"{family}:{spec.partition('@')[0]}@{folder.name[:12]}"


class SequenceModel(NamedTuple):
    """A translation model in eval mode, its tokenizer, and the folder that both came from."""

    model: LanguageModel | Engine
    tokenizer: Tokenizer
    folder: Path


def open_model(spec: str, device: str = "auto", *, ct2: bool = False, **settings: Any) -> SequenceModel:
    """A hub id (`org/name[@revision]`) or a local folder; `ct2`: run by CTranslate2. Raises `ModelError`."""
    from refusalctl.model.load import pick_device
    from refusalctl.model.pretrained import META, Wanted, check_vocabulary, open_tokenizer, open_weights

    folder = folder_of(spec, whole=True)
    what = f"the translation model {spec}"
    wanted = Wanted(("AutoModelForSeq2SeqLM",), META if ct2 else pick_device(device), None, pickled=True)
    model = open_weights(folder, what, wanted).model
    tokenizer = open_tokenizer(folder, what, padding_side="right", **settings)
    check_vocabulary(model, tokenizer, what)
    if ct2:
        return SequenceModel(open_engine(folder, what, _start(model, what)), tokenizer, folder)
    return SequenceModel(model, tokenizer, folder)


def _start(model: LanguageModel, what: str) -> int:
    """The token that its decoder begins with. Raises `ModelError` where the model does not say."""
    found = getattr(model.generation_config, "decoder_start_token_id", None)
    if not isinstance(found, int):
        raise ModelError(f"{what} does not say which token its decoder begins with", hint="is it a translation model?")
    return found


def folder_of(spec: str, *, whole: bool = False) -> Path:
    """Where a translation model's files are, of a hub model fetched now. Raises `ModelError`."""
    from refusalctl.model.files.resolve import fetch

    place = given_folder(spec, "the translation model")
    if place is not None:
        return place
    if spec.count("/") != 1 or spec.startswith((".", "/", "~")):
        raise ModelError(
            f"there is no translation model {spec}",
            hint="give a folder or a Hugging Face id such as facebook/nllb-200-distilled-600M",
        )
    name, _, revision = spec.partition("@")
    return fetch(name, revision or None, small=not whole, pickled=whole)
