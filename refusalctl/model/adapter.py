"""A PEFT adapter on the model that it was trained on: every tensor of it loaded, then merged into the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from refusalctl.errors import ModelError
from refusalctl.model.files import checkpoint
from refusalctl.model.files.checkpoint import some
from refusalctl.model.load_errors import loading

# kinds that change weights, so that a merged model is the model with its adapter
_MERGED = (
    "LORA",
    "LOHA",
    "LOKR",
    "ADALORA",
    "IA3",
    "OFT",
    "BOFT",
    "HRA",
    "BONE",
    "MISS",
    "VERA",
    "FOURIERFT",
    "RANDLORA",
)


def check_mergeable(folder: Path, name: str) -> None:
    """Raise `ModelError` for an adapter that is cut off, or of a kind that adds to prompts instead of weights."""
    kind = str(checkpoint.read_json(folder / "adapter_config.json").get("peft_type"))
    if kind not in _MERGED:
        raise ModelError(
            f"{name} is an adapter of the kind {kind}, which cannot be merged into weights",
            hint=f"give a model, or an adapter of the kinds {', '.join(_MERGED[:4])}, ...",
        )
    checkpoint.header(folder / checkpoint.ADAPTER)


def with_adapter(model: Any, folder: Path, name: str, *, quantised: bool = False) -> Any:
    """The model with the adapter merged into it, in eval mode. Raises `ModelError` where the two do not fit."""
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors.torch import load_file

    check_mergeable(folder, name)
    if quantised:
        raise ModelError(
            f"the base model of {name} is quantised: an adapter merged into it would be rounded",
            hint="give the base model in bfloat16, float16 or float32, or merge the adapter",
        )
    with loading(f"the adapter {name}", folder):
        adapted = PeftModel.from_pretrained(model, str(folder), torch_device=str(model.device))
        own = {**adapted.state_dict(), **get_peft_model_state_dict(adapted, save_embedding_layers=False)}
        expected = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
        stored = load_file(folder / checkpoint.ADAPTER)
    _check(own, expected, stored, name)
    with loading(f"the adapter {name}", folder):
        merged = adapted.merge_and_unload()
    return merged.eval().requires_grad_(False)


def _check(own: dict[str, Any], expected: set[str], stored: dict[str, Any], name: str) -> None:
    """Raise `ModelError` where the adapter's file and what was loaded of it differ in tensors or numbers."""
    missing, unread = expected - set(stored), {n for n in stored if n not in own}
    faults = [f"{len(missing)} tensors are missing ({some(missing)})"] if missing else []
    faults += [f"{len(unread)} tensors are not read ({some(unread)})"] if unread else []
    if faults:
        raise ModelError(
            f"the adapter {name} does not fit its base model: {', '.join(faults)}",
            hint="was it trained on this base? Save the adapter again, or merge it",
        )
    odd = [n for n, t in stored.items() if not t.is_floating_point()]
    broken = [n for n, t in stored.items() if n not in odd and not bool(t.isfinite().all())]
    other = [n for n, t in stored.items() if n not in odd and not torch.equal(own[n].cpu(), t.to(own[n].dtype))]
    for names, words in (
        (odd, "are no floating-point numbers"),
        (broken, "hold NaN or infinite values"),
        (other, "are not what was loaded"),
    ):
        if names:
            raise ModelError(
                f"the adapter {name}: {len(names)} tensors {words} ({some(names)})", hint="fetch or save it again"
            )
