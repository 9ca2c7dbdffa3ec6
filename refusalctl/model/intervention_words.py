"""What an intervention does, in words. Without torch, so that a command can say it before a model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

InterventionKind = Literal["none", "ablate", "add", "affine", "subspace"]
KINDS: tuple[InterventionKind, ...] = get_args(InterventionKind)
_FORMULAS = {
    "ablate": "directional ablation, x - r_hat (r_hat . x)",
    "affine": "affine ablation, x - r_hat (r_hat . (x - mu)) with mu the mean harmless activation",
    "subspace": "rank-{rank} subspace ablation, x - Q^T Q x with orthonormal rows in Q",
    "add": "activation addition, x {sign} {size:g} r",
}


def describe(
    kind: str,
    *,
    coeff: float = 1.0,
    rank: int = 1,
    layers: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    strength: float = 1.0,
) -> str:
    """One line: the formula, where in the model it acts, and at which tokens. `layers` None means all; `strength`: the
    share of every write's component that an ablation removes."""
    if kind == "none":
        return "no intervention"
    formula = _FORMULAS[kind].format(rank=rank, sign="-" if coeff < 0 else "+", size=abs(coeff))
    if strength != 1.0:
        formula += f", {strength:.3g} of it (partial)"
    return f"{formula}; {_where(kind, layers)}; {_when(positions)}"


def _where(kind: str, layers: Sequence[int] | None) -> str:
    at = "all layers" if layers is None else f"layer{'s' if len(layers) > 1 else ''} {spans(layers)}"
    if kind == "add":
        return f"at the input of {'the layer that r was read at' if layers is None else at}"
    if kind == "affine":
        return f"the stream is set where it enters {at}, and every write there is ablated"
    return f"on the stream entering {at} and on every write there"


def _when(positions: Sequence[int] | None) -> str:
    if positions is None:
        return "all tokens, prompt and answer"
    return f"only prompt positions {spans(positions)} counted from its end"


def spans(numbers: Sequence[int]) -> str:
    """`3 to 5, 8` for 3, 4, 5, 8."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
