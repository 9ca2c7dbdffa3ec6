"""A PEFT adapter on the model that it was trained on: every tensor of it loaded, then merged into the weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from refusalctl.errors import ModelError
from refusalctl.model.files import checkpoint
from refusalctl.model.files.checkpoint import some
from refusalctl.model.load_errors import loading

if TYPE_CHECKING:
    from refusalctl.model.transformers_types import LanguageModel

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


def check_fit(model: LanguageModel, folder: Path, name: str, *, quantised: bool = False) -> Any:
    """The model with an empty adapter around it, after its file was compared with it by names and shapes.

    The model may lie on `meta`. Raises `ModelError` for an adapter that is cut off, is of a kind that adds to prompts
    instead of weights, or does not fit its base.
    """
    kind = str(checkpoint.read_json(folder / "adapter_config.json").get("peft_type"))
    if kind not in _MERGED:
        raise ModelError(
            f"{name} is an adapter of the kind {kind}, which cannot be merged into weights",
            hint=f"give a model, or an adapter of the kinds {', '.join(_MERGED[:4])}, ...",
        )
    stored = checkpoint.header(folder / checkpoint.ADAPTER)
    if quantised:
        raise ModelError(
            f"the base model of {name} is quantised: an adapter merged into it would be rounded",
            hint="give the base model in bfloat16, float16 or float32, or merge the adapter",
        )
    from peft import PeftConfig, get_peft_model

    with loading(f"the adapter {name}", folder):
        adapted = get_peft_model(model, PeftConfig.from_pretrained(str(folder)))
        expected, own = _state(adapted)
    missing, unread = expected - set(stored), set(stored) - set(own)
    shapes = [n for n in set(stored) - unread if tuple(own[n].shape) != stored[n].shape]
    faults = [f"{len(missing)} tensors are missing ({some(missing)})"] if missing else []
    faults += [f"{len(unread)} tensors are not read ({some(unread)})"] if unread else []
    faults += [f"{len(shapes)} tensors are of another shape ({some(shapes)})"] if shapes else []
    if faults:
        raise ModelError(
            f"the adapter {name} does not fit its base model: {', '.join(faults)}",
            hint="was it trained on this base? Save the adapter again, or merge it",
        )
    return adapted


def _state(adapted: Any) -> tuple[set[str], dict[str, torch.Tensor]]:
    """Names that an adapter's file must hold, and all tensors by the names that it may use."""
    from peft import get_peft_model_state_dict

    expected = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    return set(expected), {**adapted.state_dict(), **expected}


def with_adapter(model: LanguageModel, folder: Path, name: str, *, quantised: bool = False) -> LanguageModel:
    """The model with the adapter merged into it, in eval mode. Raises `ModelError` where the two do not fit."""
    from safetensors.torch import load_file

    adapted = check_fit(model, folder, name, quantised=quantised)
    with loading(f"the adapter {name}", folder):
        adapted.load_adapter(str(folder), "default", torch_device=str(model.device))
        _, own = _state(adapted)
        stored = load_file(folder / checkpoint.ADAPTER)
    _check_numbers(own, stored, name)
    with loading(f"the adapter {name}", folder):
        merged = adapted.merge_and_unload()
    found: LanguageModel = merged.eval().requires_grad_(False)
    return found


def _check_numbers(own: dict[str, torch.Tensor], stored: dict[str, torch.Tensor], name: str) -> None:
    """Raise `ModelError` where numbers of the adapter's file are none, or are not those that were loaded."""
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
