"""Arms of a cost panel: interventions, each at every dose of a ladder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from refusalctl.errors import BadInput
from refusalctl.steps.interventions import InterventionSpec
from refusalctl.steps.step import Workbench

FULL = 1.0
LADDER = (0.25, 0.5, 0.75, FULL)
NO_LADDER = "an affine ablation has no partial form here: only the full dose was measured"


@dataclass(frozen=True)
class Arm:
    """One intervention under a name, as it was asked for: that is dose 1."""

    name: str
    spec: InterventionSpec

    @property
    def has_ladder(self) -> bool:
        return self.spec.kind != "affine"

    def doses(self, ladder: Sequence[float]) -> tuple[float, ...]:
        """The doses that are measured, smallest first."""
        return tuple(sorted({*ladder, FULL})) if self.has_ladder else (FULL,)

    def at(self, dose: float) -> InterventionSpec:
        """The intervention at a dose: that multiple of an addition's coefficient, that share of an ablation."""
        if dose == FULL:
            return self.spec
        if self.spec.kind == "add":
            return replace(self.spec, coeff=self.spec.coeff * dose)
        return replace(self.spec, strength=self.spec.strength * dose)

    @property
    def langs(self) -> tuple[str, ...]:
        """Languages of the prompts that its directions come from."""
        return tuple(dict.fromkeys(str(source.artifact.about["lang"]) for source in self.spec.sources))


def named_arms(specs: Sequence[InterventionSpec]) -> tuple[Arm, ...]:
    """Arms with names that tell them apart: `ablate en`, `add -1 en`, and a number where that is the same."""
    found: list[Arm] = []
    for spec in specs:
        plain = _name(spec)
        same = sum(arm.name == plain or arm.name.startswith(f"{plain} #") for arm in found)
        found.append(Arm(f"{plain} #{same + 1}" if same else plain, spec))
    return tuple(found)


def _name(spec: InterventionSpec) -> str:
    size = f" {spec.coeff:g}" if spec.kind == "add" else ""
    rank = f" rank {spec.rank}" if spec.kind == "subspace" else ""
    langs = "+".join(Arm("", spec).langs)
    return f"{spec.kind}{size} {langs}{rank}".rstrip()


def check_arms(bench: Workbench, arms: Sequence[Arm], ladder: Sequence[float]) -> None:
    """Raise `BadInput` for no arm, one that intervenes in nothing, or a dose that an arm cannot take."""
    if not arms or any(arm.spec.kind == "none" for arm in arms):
        raise BadInput("a cost is that of an intervention, and none was given", hint="such as ablate:REF")
    if any(not 0 < dose < float("inf") for dose in ladder):
        raise BadInput(f"doses are {', '.join(f'{d:g}' for d in ladder)}, expected more than 0", hint="1: all of it")
    for arm in arms:
        for dose in arm.doses(ladder):
            arm.at(dose).check(bench)
