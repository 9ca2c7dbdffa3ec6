"""Does the refusal direction of a chat model carry over from one language to another, and how sure are we?

    import refusalctl as rc

    study = rc.Study(model="smollm2-refuser", data="sample", sources=["en", "be"], targets=["en", "de", "be"])
    be = study.selection("be")
    answers = study.completions("de", rc.ablate(be))
    matrix = study.transfer()

Names are loaded when they are first used, so that importing this costs next to nothing; torch comes when a model or a
tensor is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from refusalctl.version import __version__

_HOMES = {
    "Study": "study",
    "open": "study",
    "transfer": "study",
    "ablate": "interventions",
    "add": "interventions",
    "intervene": "interventions",
    "Behaviour": "steps.costs.panel",
    "load_direction": "interventions",
    "Candidate": "interventions",
    "Intervention": "interventions",
    "Settings": "settings",
    "Machine": "settings",
    "RefusalctlError": "errors",
    "Ambiguous": "errors",
    "BadInput": "errors",
    "EmptySelection": "errors",
    "ModelError": "errors",
    "NotFound": "errors",
}

if TYPE_CHECKING:
    from refusalctl.errors import Ambiguous, BadInput, EmptySelection, ModelError, NotFound, RefusalctlError
    from refusalctl.interventions import Candidate, Intervention, ablate, add, intervene, load_direction
    from refusalctl.settings import Machine, Settings
    from refusalctl.steps.costs.panel import Behaviour
    from refusalctl.study import Study, open, transfer


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'refusalctl' has no attribute {name!r}")
    found: object = getattr(import_module(f"refusalctl.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


__all__ = [
    "Ambiguous",
    "BadInput",
    "Behaviour",
    "Candidate",
    "EmptySelection",
    "Intervention",
    "Machine",
    "ModelError",
    "NotFound",
    "RefusalctlError",
    "Settings",
    "Study",
    "__version__",
    "ablate",
    "add",
    "intervene",
    "load_direction",
    "open",
    "transfer",
]
