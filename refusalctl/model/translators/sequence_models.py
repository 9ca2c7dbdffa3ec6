"""Sequence-to-sequence models on this machine: opened, named, and decoded greedily in batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refusalctl.errors import ModelError
from refusalctl.model.translators.protocol import Outcome, outcome

MAX_NEW_TOKENS = 512


def write(model: Any, tokenizer: Any, texts: Sequence[str], max_new_tokens: int, **options: Any) -> list[list[int]]:
    """The ids that the model writes for each text, its decoder's start included."""
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


def translation(tokenizer: Any, written: list[int], max_new_tokens: int) -> Outcome:
    """Ids as text; an answer that has not ended after `max_new_tokens` is a failure, not a cut text."""
    if tokenizer.eos_token_id not in written:
        return Outcome(None, f"not finished after {max_new_tokens} tokens")
    return outcome(tokenizer.decode(written, skip_special_tokens=True))


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
