"""Whether a loaded model is its checkpoint: each tensor read, each one given, all finite, the output layer no constant.

Libraries fill what is missing with random numbers and leave out what they do not know; both end in exit code 0 and in
wrong numbers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from refusalctl.errors import ModelError
from refusalctl.model.files.checkpoint import Checkpoint, some
from refusalctl.model.files.quantisation import SCALES
from refusalctl.model.load_errors import loading

# what wrappers leave in names, and what put it there
_WRAPPERS = {
    "_orig_mod.": "torch.compile",
    "_fsdp_wrapped_module.": "FSDP",
    "_checkpoint_wrapped_module.": "activation checkpointing",
    "_forward_module.": "Lightning",
    "base_model.model.": "an unmerged PEFT model",
    "base_layer.": "an unmerged PEFT model",
    "lora_": "an unmerged LoRA adapter",
    "module.": "DistributedDataParallel",
}
_PLAIN = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_LAYER = re.compile(r"\.(?:layers|h|blocks|block|layer)\.(\d+)\.")


class Misfit(ModelError):
    """A checkpoint that is not this architecture's; `missing` and `unread` name the tensors."""

    def __init__(self, message: str, hint: str | None, missing: Collection[str], unread: Collection[str]) -> None:
        super().__init__(message, hint=hint)
        self.missing, self.unread = missing, unread


def check_names(
    model: Any, info: Mapping[str, Any], stored: Checkpoint, what: str, *, quantised: Mapping[str, Any] | None
) -> None:
    """Raise `Misfit` where the checkpoint and the architecture differ in tensors or in their shapes.

    `info` is what `from_pretrained` says it did. It is not believed alone: every parameter carries a mark once it was
    given a value, and numbers of other kinds than the architecture's are no weights. `quantised`: what was done about a
    scheme, whose own tensors bear no such mark.
    """
    missing = {str(name) for name in info["missing_keys"]}
    unread = {str(name) for name in info["unexpected_keys"]}
    shapes = sorted(info["mismatched_keys"], key=lambda each: str(each[0]))
    if quantised is None or quantised["dequantized"]:
        missing |= {n for n, p in model.named_parameters() if not getattr(p, "_is_hf_initialized", False)}
        missing -= {str(name) for name, *_ in shapes}
        _refuse_raw(model, what)
    if quantised is None:
        _refuse_integers(model, stored, what)
    if not missing and not unread and not shapes and not info.get("error_msgs"):
        return
    faults = []
    if shapes:
        told = [f"{n} is {_shape(own)} in the checkpoint, {_shape(asked)} in the model" for n, own, asked in shapes[:3]]
        more = f" and {len(shapes) - 3} more" if len(shapes) > 3 else ""
        faults.append(f"{_count(shapes)} of another shape ({'; '.join(told)}{more})")
    if missing:
        faults.append(f"{_count(missing)} missing ({some(missing)})")
    if unread:
        faults.append(f"{_count(unread)} not read ({some(unread)})")
    faults += [str(each).splitlines()[0] for each in info.get("error_msgs") or ()][:1]
    raise Misfit(
        f"the checkpoint of {what} does not fit {type(model).__name__}: {', '.join(faults)}",
        _cause(model, missing, unread, bool(shapes)),
        missing,
        unread,
    )


def _count(tensors: Collection[object]) -> str:
    return "1 tensor is" if len(tensors) == 1 else f"{len(tensors)} tensors are"


def _shape(sizes: Iterable[int]) -> str:
    return "x".join(map(str, sizes)) or "a number"


def _cause(model: Any, missing: Collection[str], unread: Collection[str], shapes: bool) -> str | None:
    """What usually makes such a difference, and what to do."""
    for mark, maker in _WRAPPERS.items():
        if any(mark in name or name.startswith(mark) for name in unread):
            return f"names carry {mark!r} of {maker}: save the model inside it"
    if any(SCALES.search(name) for name in unread):
        return "scales that nothing reads: it is quantised by a scheme that is not declared; give plain weights"
    if missing and not unread and not shapes:
        if all(name.endswith(("lm_head.weight", "embed_out.weight")) for name in missing):
            return "if its output layer is its embedding, set tie_word_embeddings to true in config.json"
        if not any(_LAYER.search(name) for name in missing) and type(model).__name__.endswith("Classification"):
            return "was its head trained? Give the model that was"
    n_layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    deepest = [int(found[1]) for name in unread if (found := _LAYER.search(name))]
    if deepest and n_layers is not None and not missing and min(deepest) >= n_layers:
        return f"config.json says {n_layers} layers, the checkpoint has {max(deepest) + 1}"
    absent = [int(found[1]) for name in missing if (found := _LAYER.search(name))]
    if absent and n_layers is not None and not unread and len(absent) == len(missing) and max(absent) + 1 == n_layers:
        return f"config.json says {n_layers} layers: does the checkpoint have as many?"
    if shapes:
        return "is config.json that of this checkpoint?"
    return "give the checkpoint of this architecture, whole"


def _refuse_integers(model: Any, stored: Checkpoint, what: str) -> None:
    """Raise where whole numbers would be taken for weights, other than what the architecture itself keeps as such."""
    odd = [name for name, tensor in stored.tensors.items() if not tensor.floating]
    if not odd:
        return
    own = {name: tensor.dtype.is_floating_point for name, tensor in model.state_dict().items()}
    ignored = _ignorable(model)
    wrong = [
        n for n in odd if not (ignored and ignored.search(n)) and (_target(n, own) is None or own[str(_target(n, own))])
    ]
    if wrong:
        kinds = ", ".join(sorted({stored.tensors[n].dtype for n in wrong}))
        raise Misfit(
            f"the checkpoint of {what} holds {kinds} numbers where weights are expected: {some(wrong)}",
            "is it quantised without saying how? Give plain weights",
            (),
            wrong,
        )


def _refuse_raw(model: Any, what: str) -> None:
    """Raise where parameters are still the numbers that a scheme packed: what would make weights of them is missing."""
    raw = [n for n, p in model.named_parameters() if p.is_floating_point() and p.dtype not in _PLAIN]
    if raw:
        raise Misfit(
            f"the checkpoint of {what} gives no scale for {len(raw)} packed weights ({some(raw)})",
            "fetch the whole model again, or give it in bfloat16, float16 or float32",
            raw,
            (),
        )


def _target(name: str, own: Collection[str]) -> str | None:
    """The model's tensor that a stored one is read into, where names differ at most by a prefix."""
    if name in own:
        return name
    return next((n for n in own if n.endswith(f".{name}") or name.endswith(f".{n}")), None)


def _ignorable(model: Any) -> re.Pattern[str] | None:
    """Tensors that the architecture itself says it does not read."""
    patterns = [*(model._keys_to_ignore_on_load_unexpected or ()), r"rotary_emb\.inv_freq", r"(^|\.)position_ids$"]
    return re.compile("|".join(f"({each})" for each in patterns))


@torch.no_grad()
def check_values(model: Any, stored: Checkpoint, what: str) -> None:
    """Raise `ModelError` naming tensors with NaN or infinity, and for an output layer that is the same everywhere."""
    once = {
        id(t): (n, t) for n, t in reversed(model.state_dict(keep_vars=True).items())
    }  # tied ones by their first name
    named = [(n, t) for n, t in once.values() if t.dtype in _PLAIN and t.numel() and not t.is_meta]
    suspects = {n for (n, _), ok in zip(named, _finite([t for _, t in named])) if not ok}
    wrong = [n for n, t in named if n in suspects and not bool(t.isfinite().all())]  # a sum may overflow by itself
    if wrong:
        narrow = {t.dtype for n, t in named if n in wrong} == {torch.float16}
        wide = narrow and any(each.dtype != "F16" for each in stored.tensors.values())
        raise ModelError(
            f"{what} holds NaN or infinite weights: {_count(wrong)} not finite ({some(wrong)})",
            hint="float16 does not hold such large weights: try --dtype bfloat16 or float32"
            if wide
            else "the checkpoint is damaged: fetch it again",
        )
    heads = [model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None]
    heads += [getattr(model, name, None) for name in ("score", "classifier")]
    for head in heads:
        weight = getattr(head, "weight", None)
        if isinstance(weight, Tensor) and weight.is_floating_point() and not weight.is_meta and _constant(weight):
            raise ModelError(
                f"{what}: its output layer is the same for every token or label, so that it cannot choose",
                hint="the checkpoint is damaged or was never trained: fetch it again",
            )


def _finite(tensors: Iterable[Tensor]) -> list[bool]:
    """Whether each tensor's sum is a number, asked of each device once: a GPU would wait for every answer."""
    by_device: dict[torch.device, list[tuple[int, Tensor]]] = {}
    for i, tensor in enumerate(tensors):
        by_device.setdefault(tensor.device, []).append((i, tensor.sum().isfinite()))
    found: dict[int, bool] = {}
    for sums in by_device.values():
        found |= zip((i for i, _ in sums), torch.stack([s for _, s in sums]).tolist())
    return [found[i] for i in sorted(found)]


def _constant(weight: Tensor) -> bool:
    rows = weight.reshape(len(weight), -1)
    few = rows[:: max(1, len(rows) // 8)]
    return len(rows) > 1 and bool((few == few[0]).all()) and bool((rows == rows[0]).all())


@torch.no_grad()
def check_buffers(model: Any, config: Any, what: str) -> None:
    """Raise `ModelError` where a model's own code computes tensors that the loaded model does not hold.

    Weights are filled into an empty model. Tensors that no checkpoint has (rotary frequencies) are made again after
    that, which code that a model brings along may not know of: they would be whatever the memory held.
    """
    if not model.is_custom_code() or getattr(model, "hf_quantizer", None) is not None:
        return
    own = dict(model.named_non_persistent_buffers())
    if not own:
        return
    from transformers.initialization import no_init_weights

    with loading(what), no_init_weights():  # its parameters stay empty: memory that nobody touches
        fresh = dict(type(model)(config).named_non_persistent_buffers())
    wrong = [
        n
        for n, t in own.items()
        if n in fresh and not torch.allclose(t.double().cpu(), fresh[n].double(), rtol=1e-2, atol=1e-4, equal_nan=True)
    ]
    if wrong:
        raise ModelError(
            f"{what}: {_count(wrong)} not what its own code computes ({some(wrong)})",
            hint="its code was written for another transformers; does transformers know the architecture itself?",
        )
