"""What an experiment asks: every parameter of the chain in one frozen record, from flags or a TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any

from refusalctl.errors import BadInput
from refusalctl.stats.selection_rule import PRESETS, Rule

STYLE_JUDGE = "style"
CRITERIA = ("refusal-score", "cosmic")
SEARCHES = ("full", "prune", "screen")
CAPS = {"train": 128, "val": 32, "test": None}
MODEL_KEYS = {
    "name": "str",
    "device": "str",
    "dtype": "str",
    "attention": "str",
    "batch_size": "int",
    "system": "str",
    "trust_remote_code": "bool",
}


@dataclass(frozen=True)
class Experiment:
    """Defaults are those of the published runs where these name one (128 train, 32 validation prompts).

    A count of None takes what there is, up to 128 train and 32 validation prompts. `positions` None means all
    end-of-instruction positions; `layers` None all below the rule's limit.
    """

    sources: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    data: str = "sample"
    n_train: int | None = None
    n_val: int | None = None
    n_test: int | None = None
    seed: int = 0
    positions: tuple[int, ...] | None = None
    layers: tuple[int, ...] | None = None
    rule: str = "arditi"
    max_kl: float | None = None
    min_induce: float | None = None
    max_layer_share: float | None = None
    filter_val: bool = True
    max_new_tokens: int = 64
    judge: str = "substring"
    margin: float = 0.10
    induce: bool = True
    doses: tuple[float, ...] = (1.0,)  # coefficients of addition; the verdict on induction is about the first
    require_null: bool = True  # without control directions no cell is called `transfers`
    rank: int = 1  # directions ablated together
    # scores and choices
    refusal_openings: tuple[str, ...] | None = None  # TEXT or ids:40,2121, with LANG= in front; None: derived
    opening_judge: str = STYLE_JUDGE  # what validation answers are judged by when openings are checked
    min_opening_auroc: float = 0.75
    criterion: str = "refusal-score"
    search: str = "full"  # prune: scores that the choice needs; screen: of candidates that look best to first order
    controls: bool = False  # control directions beside every cell; see docs/methods.md for what they cost
    n_controls: int | None = None  # draws per family; None: as many as a Holm-corrected family needs, at least 19
    control_prompts: int = 16  # validation prompts that controls are selected and compared on
    control_completions: int = 1  # draws per family that a verdict looks at, written out on the test prompts
    control_candidates: int = 16  # candidates that each shuffled labelling is searched over; 0: all

    @property
    def langs(self) -> tuple[str, ...]:
        """Every language that takes part, sources first, each once."""
        return tuple(dict.fromkeys((*self.sources, *self.targets)))

    def n(self, split: str) -> int | None:
        given: int | None = getattr(self, f"n_{split}")
        return given

    def resolved_rule(self) -> Rule:
        """The preset with the thresholds that were given. Raises `BadInput` for an unknown preset."""
        if self.rule not in PRESETS:
            raise BadInput(f"there is no selection rule {self.rule!r}", hint=f"known: {', '.join(PRESETS)}")
        given = {k: v for k in ("max_kl", "min_induce", "max_layer_share") if (v := getattr(self, k)) is not None}
        return replace(PRESETS[self.rule], **given)

    def check(self) -> Experiment:
        """Raise `BadInput` for a value that cannot be meant."""
        if not 0 < self.margin < 0.5:
            raise BadInput(
                f"the margin is {self.margin:g}, expected a share between 0 and 0.5", hint="10 points are 0.1"
            )
        for name in ("n_train", "n_val", "n_test", "max_new_tokens", "rank"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadInput(f"{name} is {value}, expected at least 1")
        if not self.doses or len(set(self.doses)) < len(self.doses) or not all(isfinite(d) and d for d in self.doses):
            raise BadInput(f"doses are {self.doses}, expected different numbers other than 0, at least one")
        self._check_choices()
        if any(p >= 0 for p in self.positions or ()):
            raise BadInput(f"positions count back from the prompt's end: expected -1 or less, found {self.positions}")
        if any(layer < 0 for layer in self.layers or ()):
            raise BadInput(f"layers count from 0, found {self.layers}")
        self.resolved_rule()
        return self

    def _check_choices(self) -> None:
        if self.criterion not in CRITERIA:
            raise BadInput(f"there is no criterion {self.criterion!r}", hint=f"known: {', '.join(CRITERIA)}")
        if self.search not in SEARCHES:
            raise BadInput(f"there is no search {self.search!r}", hint=f"known: {', '.join(SEARCHES)}")
        if self.search != "full" and self.criterion == "cosmic":
            raise BadInput(f"--{self.search} shortens the search by refusal scores, COSMIC needs every candidate")
        if not 0.5 <= self.min_opening_auroc <= 1:
            raise BadInput(f"min_opening_auroc is {self.min_opening_auroc:g}, expected 0.5 (chance) to 1")
        if any(not opening.strip() for opening in self.refusal_openings or ()):
            raise BadInput("a refusal opening is empty", hint="give the words that refusals begin with, or ids:40,2121")
        if self.n_controls is not None and self.n_controls < 19:
            raise BadInput(
                f"n_controls is {self.n_controls}, expected at least 19", hint="fewer can never give p <= 0.05"
            )
        if self.control_prompts < 1 or self.control_candidates < 0 or self.control_completions < 0:
            raise BadInput("control_prompts must be at least 1, control_candidates (0: all) and control_completions 0")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_toml(path: Path) -> dict[str, Any]:
    """Settings of an experiment file. Raises `BadInput` naming an unknown key or a malformed line.

    Keys of `[experiment]` are the fields of `Experiment`; `[model]` holds name, device, dtype, attention,
    batch_size, system and trust_remote_code.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"{path} is not there", hint="see examples/ for experiment files") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not TOML ({error})") from error
    known = {
        "experiment": {f.name for f in fields(Experiment)},
        "model": set(MODEL_KEYS),
    }
    for section, values in raw.items():
        if section not in known or not isinstance(values, dict):
            raise BadInput(f"{path}: unknown section [{section}]", hint="expected [experiment] and [model]")
        for key in values:
            if key not in known[section]:
                raise BadInput(
                    f"{path}: unknown key {key!r} in [{section}]", hint=f"known: {', '.join(sorted(known[section]))}"
                )
    for key, value in raw.get("model", {}).items():
        if not _fits(value, MODEL_KEYS[key]) or (key == "batch_size" and value < 1):
            raise BadInput(f"{path}: {key} in [model] is {value!r}, expected {MODEL_KEYS[key]}")
    return raw


def from_settings(settings: dict[str, Any]) -> Experiment:
    """Build an experiment from TOML or flag values. Raises `BadInput` for a value of the wrong type."""
    types = {f.name: str(f.type) for f in fields(Experiment)}
    values: dict[str, Any] = {}
    for key, value in settings.items():
        values[key] = tuple(value) if isinstance(value, list) else value
        if not _fits(values[key], types[key]):
            raise BadInput(f"{key} is {value!r}, expected {types[key]}")
    return Experiment(**values).check()


def _fits(value: Any, expected: str) -> bool:
    if value is None:
        return "None" in expected
    if expected.startswith("tuple[str"):
        return isinstance(value, tuple) and all(isinstance(v, str) for v in value)
    if expected.startswith("tuple[int"):
        return isinstance(value, tuple) and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    if expected.startswith("tuple[float"):
        return isinstance(value, tuple) and all(_fits(v, "float") for v in value)
    if expected.startswith("int"):
        return isinstance(value, int) and not isinstance(value, bool)
    if expected.startswith("float"):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, bool if expected == "bool" else str)
