"""How far interventions are from what they promise, measured without the package's own arithmetic.

Used by the tests and by `benchmarks/architectures.py`. Deviations are relative, so that they compare across families.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from refusalctl.model import forward
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.generate import complete
from refusalctl.model.hooks import Intervention, intervene
from tests import chat_forms, families
from tests.families import D_MODEL, FAMILIES, build, direction, orthogonalise, stream
from tests.tiny import tokenizer

TEXTS = ("Name a colour.", "Чаму неба блакітнае?", "Hi", "Write three lines about rain, please.")
KINDS = ("ablate", "affine", "subspace")
DTYPES = (torch.float32, torch.float64, torch.bfloat16)


class Limit(NamedTuple):
    """What rounding may cost: (2) projection left, (3) logits against edited weights, in standard deviations.

    (1), recorded against transformers' hidden states, has to be 0: nothing is computed twice.
    """

    projection: float
    weights: float


LIMITS = {
    torch.float32: Limit(1e-5, 1e-4),
    torch.float64: Limit(1e-12, 1e-6),  # most norms compute in float32 even so
    torch.bfloat16: Limit(1e-2, 0.25),  # edited weights are rounded too, three digits remain of each
}


def chat_model(name: str, dtype: torch.dtype = torch.float32) -> ChatModel:
    return ChatModel(build(name, dtype), tokenizer(), None)


def model_of_form(form: str) -> ChatModel:
    """A random model of the form's architecture, asked in that form (`tests/chat_forms.py`)."""
    made = chat_forms.tokenizer(form)
    return ChatModel(families.build_for(chat_forms.FORMS[form].architecture, made), made, None)


def ids_of(model: ChatModel, text: str = TEXTS[1]) -> Tensor:
    return torch.tensor([model.chat.encode(text)])


def interventions(dtype: torch.dtype = torch.float32) -> dict[str, Intervention]:
    """One of each kind, over all layers and positions."""
    r, other, mean = (direction(seed).to(torch.promote_types(dtype, torch.float32)) for seed in (1, 2, 3))
    return {
        "ablate": Intervention("ablate", r),
        "affine": Intervention("affine", r, mean=mean),
        "subspace": Intervention("subspace", torch.stack([r, other])),
        "add": Intervention("add", r, 1, -1.5),
    }


def recorded(model: ChatModel) -> float:
    """(1) Largest difference between collected `resid_pre` and `hidden_states`, relative to the largest entry."""
    worst = 0.0
    for text in TEXTS:
        ids = model.chat.encode(text)
        positions = [*model.chat.positions, model.chat.inst_position]
        ((_, found),) = forward.activations(model, [ids], positions, batch_size=1)
        plain = model.model(torch.tensor([ids]), output_hidden_states=True, use_cache=False).hidden_states[:-1]
        expected = torch.stack([state[0, positions].float() for state in plain], dim=1)
        worst = max(worst, float((found[0] - expected).abs().max() / expected.abs().max()))
    return worst


def left_over(name: str, model: ChatModel, asked: Intervention) -> float:
    """(2) Largest |Q x - t| / |x| over all tokens, at every block input and at the final norm's input."""
    ids = ids_of(model)
    with intervene(model.residual, asked):
        states = stream(name, model.model, lambda: model.model(ids, use_cache=False))
    assert len(states) == model.residual.n_layers + 1
    return max(float(away(state, asked).max()) for state in states)


def away(state: Tensor, asked: Intervention) -> Tensor:
    """Relative distance of each token from where an intervention puts the stream, in float64, one direction a time."""
    assert asked.direction is not None
    x, rows = state.double(), asked.direction.double().reshape(-1, D_MODEL)
    rows = rows / rows.norm(dim=-1, keepdim=True)
    mean = torch.zeros(D_MODEL, dtype=torch.float64) if asked.mean is None else asked.mean.double()
    distance: Tensor = ((x - mean) @ rows.T).abs().amax(-1) / x.norm(dim=-1)
    return distance


def logits_under(model: ChatModel, asked: Intervention, ids: Tensor) -> Tensor:
    with intervene(model.residual, asked):
        logits: Tensor = model.model(ids, use_cache=False).logits
    return logits.double()


def comparable(name: str, dtype: torch.dtype) -> bool:
    """Whether edited weights are expected to agree. In bfloat16 near-ties between experts fall either way."""
    return bool(FAMILIES[name].writes) and not (dtype == torch.bfloat16 and FAMILIES[name].experts)


def against_weights(name: str, model: ChatModel, rows: Tensor, strength: float = 1.0) -> float | None:
    """(3) Largest difference of ablated logits to those of edited weights, in standard deviations of the logits.

    None where no weights, not even with projections behind norms, do the same.
    """
    if not comparable(name, families.dtype_of(model.model)):
        return None
    asked = Intervention("ablate" if rows.ndim == 1 else "subspace", rows, strength=strength)
    ids = ids_of(model)
    hooked = logits_under(model, asked, ids)
    edited = orthogonalise(name, copy.deepcopy(model.model), rows, strength)
    expected = edited(ids, use_cache=False).logits.double()
    return float((hooked - expected).abs().max() / expected.std())


class Deviations(NamedTuple):
    """(1) to (3) as above, in float32; (4) the largest difference of an opening's log-probability, and the number of
    greedy answers that differ, between prompts alone and in padded batches of another order."""

    recorded: float
    left_over: float
    weights: float | None
    batch: float
    other_answers: int


def deviations(form: str) -> Deviations:
    """Of a form's random model, over prompts that are written in that form."""
    model, architecture = model_of_form(form), chat_forms.FORMS[form].architecture
    asked = interventions()
    alone, together = (scores(model, asked["affine"], *how) for how in (((0, 1, 2, 3), 1), ((3, 1, 0, 2), 3)))
    single, batched = (answers(model, asked["affine"], size) for size in (1, 3))
    return Deviations(
        recorded(model),
        max(left_over(architecture, model, asked[kind]) for kind in KINDS),
        against_weights(architecture, model, direction()),
        float((together - alone).abs().max()),
        sum(single[i] != batched[i] for i in single),
    )


def answers(model: ChatModel, asked: Intervention, batch_size: int) -> dict[int, list[int]]:
    """Greedy answers of a few tokens, by prompt."""
    found = {}
    encoded = [model.chat.encode(text) for text in TEXTS]
    for indices, written, _ in complete(model, encoded, asked, max_new_tokens=4, batch_size=batch_size):
        found.update({i: each.ids for i, each in zip(indices, written, strict=True)})
    return found


def scores(model: ChatModel, asked: Intervention, order: Sequence[int], batch_size: int) -> Tensor:
    """Opening log-probabilities of the prompts, computed in some order and batch size, put back into order."""
    openings = [[5], [9, 11, 200], [9, 12]]
    encoded = [model.chat.encode(TEXTS[i]) for i in order]
    found = forward.opening_logprob(model, encoded, openings, asked, batch_size)
    result = torch.empty_like(found)
    result[list(order)] = found
    return result
