"""Which interventions make sense: asked by artifacts before a model is loaded, or by vectors when hooks are set.

Without torch, like the words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from refusalctl.errors import BadInput
from refusalctl.model import intervention_words as words
from refusalctl.setting_words import meant


def check_intervention(
    kind: str,
    *,
    has_direction: bool,
    coeff: float,
    layers: Sequence[int] | None,
    positions: Sequence[int] | None,
    strength: float = 1.0,
) -> None:
    """Raise `BadInput` for a combination that makes no sense in any model."""
    if kind not in words.KINDS:
        raise BadInput(
            f"there is no intervention {kind!r}",
            hint=f"{meant(kind, words.KINDS)}choose among {', '.join(words.KINDS)}",
        )
    if kind != "add" and coeff != 1.0:
        raise BadInput(f"a coefficient has no meaning for {kind!r}", hint="it belongs to 'add'")
    if strength != 1.0 and kind not in ("ablate", "subspace"):
        raise BadInput(f"a strength has no meaning for {kind!r}", hint="it belongs to 'ablate' and 'subspace'")
    if not 0 < strength <= 1:
        raise BadInput(f"the strength of an ablation is {strength:g}, expected more than 0, at most 1 (all of it)")
    if not math.isfinite(coeff):
        raise BadInput(f"the coefficient is {coeff}, expected a number")
    if kind == "none" and (layers is not None or positions is not None):
        raise BadInput("no intervention acts nowhere", hint="leave --at-layers and --at-positions out")
    if kind == "none" and has_direction:
        raise BadInput("the intervention 'none' takes no direction", hint="leave --intervention out")
    if kind != "none" and not has_direction:
        raise BadInput(f"the intervention {kind!r} needs a direction", hint="give --direction REF")
    if layers is not None and (not layers or min(layers) < 0):
        raise BadInput(f"layers count from 0, found {list(layers)}")
    if positions is not None and (not positions or max(positions) >= 0):
        raise BadInput(f"positions count back from the prompt's end, -1 or less; found {list(positions)}")
