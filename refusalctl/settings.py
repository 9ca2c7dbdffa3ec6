"""Every setting once: its name, type, default, range, help, flag and environment variable.

Options of the command line, keys of experiment files, environment variables, `--explain`, docs/settings.md and keyword
arguments of `Study` are made from these declarations. To add one, add a field.

A `Settings` says what is asked; it enters recipes as far as a step needs it. A `Machine` says which model answers, and
where. Where a value is given more than once, a flag wins over the file, the file over the environment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from math import isfinite
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from refusalctl.errors import BadInput
from refusalctl.setting_values import UNLIMITED, WRITTEN_ONCE, Group, check_languages, check_openings
from refusalctl.setting_words import misfit, nearest
from refusalctl.stats.selection_rule import PRESETS, Rule

STYLE_JUDGE = "style"
CAPS = {"train": 128, "val": 32, "test": None}  # prompts per class where no number is given; None: all
LEAST_CONTROLS = 19  # fewer draws can never give p <= 0.05

Count = Annotated[int, Meta(ge=1)]
Whole = Annotated[int, Meta(ge=0)]
Criterion = Literal["refusal-score", "cosmic"]
Search = Literal["full", "prune", "screen"]
Thoughts = Literal["auto", "off", "on"]
Family = Literal["max-t", "in-order"]

DEFAULT_STORE, STORE_VARIABLE = "artifacts", "REFUSALCTL_STORE"  # no setting: it changes no result


def option(
    text: str,
    *,
    env: str | None = None,
    values: Mapping[str, str] | None = None,
    short: str | None = None,
) -> Meta:
    """How a setting is told and given. `values`: flags that each give one value, with
    their help; `short`: what `[default: ...]` says where the default is None."""
    return Meta(description=text, extra={"env": env, "values": dict(values or {}), "short": short})


class PromptSettings(Group, frozen=True):
    """Which prompts are drawn. A count of None takes what there is, up to 128 train and 32 validation prompts."""

    data: Annotated[str, option("Prompt set: sample, polyrefuse, or your own.", env="REFUSALCTL_DATA")] = "sample"
    n_train: Annotated[Count | None, option("Train prompts per class.", short="all, up to 128")] = None
    n_val: Annotated[Count | None, option("Validation prompts per class.", short="all, up to 32")] = None
    n_test: Annotated[Count | None, option("Test prompts per class.", short="all")] = None
    seed: Annotated[int, option("Seed of the prompt draw.")] = 0

    def n(self, split: str) -> int | None:
        """How many prompts of a split were asked for."""
        given: int | None = getattr(self, f"n_{split}")
        return given


class SelectionSettings(Group, frozen=True):
    """Where directions are looked for, and how one is chosen. None of a limit: the rule's own."""

    positions: Annotated[tuple[int, ...] | None, option("End-of-instruction positions such as -1,-5.", short="all")] = (
        None
    )
    layers: Annotated[tuple[int, ...] | None, option("Layers as 8,12 or 4:24:2.", short="all below the limit")] = None
    rule: Annotated[str, option("Selection rule: arditi or wang.")] = "arditi"
    max_kl: Annotated[float | None, option("Largest KL divergence (nats) instead of the rule's.")] = None
    min_induce: Annotated[float | None, option("Smallest induce score instead of the rule's.")] = None
    max_layer_share: Annotated[float | None, option("Layer < floor(share * n_layers) instead of the rule's share.")] = (
        None
    )
    filter_val: Annotated[bool, option("Keep only validation prompts that the model tells apart.")] = True
    criterion: Annotated[
        Criterion, option("Choose by refusal-score (opening probabilities) or cosmic (activations, token-free).")
    ] = "refusal-score"
    search: Annotated[
        Search,
        option(
            "Which candidates are scored on what: full, prune or screen.",
            values={
                "prune": "Score candidates only as far as the choice needs it; the choice is the same.",
                "screen": "Score candidates that look best to first order; mostly the same choice.",
            },
        ),
    ] = "full"
    refusal_openings: Annotated[
        tuple[str, ...] | None,
        option("How refusals open, instead of deriving it: TEXT or ids:40,2121, for one language be=TEXT. Repeatable."),
    ] = None
    opening_judge: Annotated[
        str, option("What checks refusal openings: style (no download), or a judge; see `judge --list`.")
    ] = STYLE_JUDGE
    min_opening_auroc: Annotated[
        float, option("Smallest AUROC of the refusal score against refusals found by the opening judge.")
    ] = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(p >= 0 for p in self.positions or ()):
            raise BadInput(f"positions count back from the prompt's end: expected -1 or less, found {self.positions}")
        if any(layer < 0 for layer in self.layers or ()):
            raise BadInput(f"layers count from 0, found {self.layers}")
        if self.max_layer_share is not None and not self.max_layer_share > 0:
            raise BadInput(f"max_layer_share is {self.max_layer_share:g}, expected more than 0", hint="1: all layers")
        if not 0.5 <= self.min_opening_auroc <= 1:
            raise BadInput(f"min_opening_auroc is {self.min_opening_auroc:g}, expected 0.5 (chance) to 1")
        check_openings(self.refusal_openings)
        if self.search != "full" and self.criterion == "cosmic":
            raise BadInput(f"--{self.search} shortens the search by refusal scores, COSMIC needs every candidate")
        if self.rule not in PRESETS:
            raise BadInput(f"there is no selection rule {self.rule!r}", hint=nearest(self.rule, PRESETS))

    def resolved_rule(self) -> Rule:
        """The preset with the thresholds that were given."""
        given = {name: getattr(self, name) for name in UNLIMITED}
        return PRESETS[self.rule].with_limits(**{name: value for name, value in given.items() if value is not None})


class AnswerSettings(Group, frozen=True):
    """How answers are written and judged."""

    max_new_tokens: Annotated[Count, option("Longest completion in tokens, without the thought before it.")] = 64
    max_think_tokens: Annotated[Count, option("Longest thought in tokens, of models that think first.")] = 512
    judge: Annotated[
        str, option("Judge: NAME or NAME=MODEL; see `refusalctl judge --list`.", env="REFUSALCTL_JUDGE")
    ] = "substring"


class VerdictSettings(Group, frozen=True):
    """What a verdict is about, and what it needs."""

    margin: Annotated[float, option("Margin of the verdict rule as a share.")] = 0.10
    induce: Annotated[bool, option("Also add each direction on harmless prompts.")] = True
    doses: Annotated[
        tuple[float, ...], option("Coefficients of addition such as 1,2,4; the verdict is about the first.")
    ] = (1.0,)
    rank: Annotated[Count, option("How many directions are ablated together.")] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.margin < 0.5:
            raise BadInput(
                f"the margin is {self.margin:g}, expected a share between 0 and 0.5", hint="10 points are 0.1"
            )
        if not self.doses or len(set(self.doses)) < len(self.doses) or not all(isfinite(d) and d for d in self.doses):
            raise BadInput(f"doses are {self.doses}, expected different numbers other than 0, at least one")


class ControlSettings(Group, frozen=True):
    """Control directions beside every cell; docs/methods.md says what they cost."""

    controls: Annotated[bool, option("Compare with control directions; without them nothing is called a transfer.")] = (
        True
    )
    n_controls: Annotated[int | None, option("Control draws per source, at least 19.", short="39")] = None
    control_prompts: Annotated[Count, option("Test prompts per class that controls are compared on.")] = 16
    control_candidates: Annotated[Whole, option("Places scored per control draw, best to first order; 0: all.")] = 0
    control_completions: Annotated[
        Whole, option("Draws whose answers are written on the test prompts; from 19 on they decide as well.")
    ] = 0
    control_family: Annotated[Family, option("How p is adjusted over pairs: max-t or in-order.")] = "max-t"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_controls is not None and self.n_controls < LEAST_CONTROLS:
            raise BadInput(
                f"n_controls is {self.n_controls}, expected at least {LEAST_CONTROLS}: the smallest p of "
                f"{self.n_controls} draws is {1 / (max(self.n_controls, 0) + 1):.2g}, at most 0.05 certifies a cell",
                hint=f"--n-controls {LEAST_CONTROLS} or more, or --no-controls, which certifies nothing",
            )
        if self.n_controls is not None and self.control_completions > self.n_controls:
            raise BadInput(f"control_completions is {self.control_completions}, n_controls {self.n_controls}")


class Settings(Group, frozen=True):
    """What an experiment asks. Defaults are those of the published runs where these name one."""

    sources: Annotated[tuple[str, ...], option("Languages to take a direction from, such as en,be.")] = ()
    targets: Annotated[tuple[str, ...], option("Languages to apply it in, such as en,be,ba.")] = ()
    prompts: PromptSettings = PromptSettings()
    selection: SelectionSettings = SelectionSettings()
    answers: AnswerSettings = AnswerSettings()
    verdict: VerdictSettings = VerdictSettings()
    controls: ControlSettings = ControlSettings()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_languages("sources", self.sources)
        check_languages("targets", self.targets)

    @property
    def langs(self) -> tuple[str, ...]:
        """Every language that takes part, sources first, each once. They share their prompts."""
        return tuple(dict.fromkeys((*self.sources, *self.targets)))

    @classmethod
    def of(cls, **values: object) -> Settings:
        """From values by name. Raises `BadInput` for an unknown name or a value that does not fit."""
        check_names(values, "experiment")
        return build({name: value for name, value in values.items() if value is not None}, {})[0]

    def changed(self, **values: object) -> Settings:
        """The same with other values, by name."""
        return Settings.of(**(self.by_name() | values))

    def by_name(self) -> dict[str, object]:
        """Every value by the setting's name, without groups; as an experiment file writes them."""
        return {each.name: each.of(self) for each in declared() if each.section == "experiment"}


class Machine(Group, frozen=True):
    """Which model answers, and where it runs."""

    model: Annotated[
        str,
        option(
            "smollm2-refuser, smollm2-refuser-en, smollm2, a Hugging Face id, a folder or a GGUF file.",
            env="REFUSALCTL_MODEL",
        ),
    ] = "smollm2-refuser"
    device: Annotated[
        str, option("auto, cpu, cuda, mps, or shard (all devices, accelerate).", env="REFUSALCTL_DEVICE")
    ] = "auto"
    dtype: Annotated[str, option("auto, float32, bfloat16, float16, nf4, int8.", env="REFUSALCTL_DTYPE")] = "auto"
    attention: Annotated[str, option("Attention kernel: auto, sdpa, eager or flash_attention_2.")] = "auto"
    batch_size: Annotated[
        Count, option("Prompts per batch; fewer where memory runs out.", env="REFUSALCTL_BATCH_SIZE")
    ] = 32
    system: Annotated[str | None, option("System prompt.", short="the template's own")] = None
    chat_template: Annotated[
        str | None,
        option("Chat template: a Jinja file, or a name of the model's.", env="REFUSALCTL_CHAT_TEMPLATE"),
    ] = None
    thinking: Annotated[
        Thoughts,
        option("The model's thoughts: off (a closed, empty one), on (its own), or auto (off where the template can)."),
    ] = "auto"
    trust_remote_code: Annotated[bool, option("Run code that a model brings along.")] = False

    def changed(self, **values: Any) -> Machine:
        return msgspec.structs.replace(self, **values)


# --- declarations -------------------------------------------------------------------------------------


class Declared(NamedTuple):
    """One setting as it was declared. `section` and `key` name it in experiment files; `group` is its field in
    `Settings`, empty for sources, targets and the machine's."""

    name: str
    section: str
    key: str
    group: str
    type: Any
    default: Any
    help: str
    env: str | None
    flag: str
    values: dict[str, str]
    short: str | None

    def of(self, settings: Settings) -> object:
        found: object = getattr(getattr(settings, self.group) if self.group else settings, self.name)
        return found


@cache
def declared() -> tuple[Declared, ...]:
    """Every setting, in the order of its declaration."""
    return tuple(_all_declared())


def _all_declared() -> Iterator[Declared]:
    for field in msgspec.structs.fields(Settings):
        if isinstance(field.type, type) and issubclass(field.type, Group):
            for inner in msgspec.structs.fields(field.type):
                yield _declared(inner, "experiment", field.name)
        else:
            yield _declared(field, "experiment", "")
    for field in msgspec.structs.fields(Machine):
        yield _declared(field, "model", "")


def _declared(field: msgspec.structs.FieldInfo, section: str, group: str) -> Declared:
    assert get_origin(field.type) is Annotated
    kind, *metas = get_args(field.type)
    meta = next(m for m in metas if isinstance(m, Meta) and m.extra)
    if limits := [m for m in metas if m is not meta]:
        kind = Annotated[kind, *limits]  # `Annotated[Count, option(...)]` comes flattened
    told: dict[str, Any] = dict(meta.extra or {})
    key = "name" if (section, field.name) == ("model", "model") else field.name
    flag = f"--{field.name.replace('_', '-')}"
    return Declared(
        field.name,
        section,
        key,
        group,
        kind,
        field.default,
        meta.description or "",
        told["env"],
        flag,
        told["values"],
        told["short"],
    )


# --- from values to records ----------------------------------------------------------------------------


def check_names(values: Mapping[str, object], section: str | None = None) -> None:
    """Raise `BadInput` for a name that is no setting, or none of this section, with the nearest one."""
    known = {each.name: each for each in declared() if section in (None, each.section)}
    for name in values:
        if name not in known:
            raise BadInput(f"there is no setting {name!r}", hint=nearest(name, known))


def build(values: Mapping[str, object], origins: Mapping[str, str]) -> tuple[Settings, Machine]:
    """Records from values by name; `origins` says where each came from. Raises `BadInput` for one that does not fit."""
    known = {each.name: each for each in declared()}
    groups: dict[str, dict[str, object]] = {}
    machine: dict[str, object] = {}
    for name, value in values.items():
        each = known[name]
        home = machine if each.section == "model" else groups.setdefault(each.group, {})
        home[name] = _in_one_spelling(each, value, origins.get(name, "flag")) if name in WRITTEN_ONCE else value
    plain = groups.pop("", {})
    nested = {group: _record(Settings, group, given, origins) for group, given in groups.items()}
    settings = _convert(plain | nested, Settings, origins)
    return settings, _convert(machine, Machine, origins)


def _in_one_spelling(each: Declared, given: object, origin: str) -> object:
    try:
        return WRITTEN_ONCE[each.name](given)
    except BadInput as error:
        if origin in ("flag", "default"):
            raise
        raise BadInput(f"{origin}: {each.key} in [{each.section}]: {error.message}", hint=error.hint) from error


def _record(owner: type[Struct], group: str, given: Mapping[str, object], origins: Mapping[str, str]) -> Group:
    kind: type[Group] = next(f.type for f in msgspec.structs.fields(owner) if f.name == group)
    return _convert(given, kind, origins)


G = TypeVar("G", bound=Group)


def _convert(given: Mapping[str, object], kind: type[G], origins: Mapping[str, str]) -> G:
    """A record of values that were checked one by one, so that a complaint names the setting and where it was set."""
    checked: dict[str, object] = {}
    for field in msgspec.structs.fields(kind):
        if field.name not in given:
            continue
        value = given[field.name]
        if isinstance(value, Group):
            checked[field.name] = value
            continue
        try:
            checked[field.name] = msgspec.convert(value, field.type)
        except msgspec.ValidationError as error:
            raise BadInput(_complaint(field.name, value, str(error), origins)) from error
    try:
        return kind(**checked)
    except BadInput as error:  # values that do not go together, or a rule of this group's own
        places = {origins.get(name, "flag") for name in given} - {"flag", "default"}
        if not places:
            raise
        raise BadInput(f"{', '.join(sorted(places))}: {error.message}", hint=error.hint) from error


def _complaint(name: str, value: object, problem: str, origins: Mapping[str, str]) -> str:
    """`n_train is 0, expected a whole number of at least 1`, with the file or variable that says so."""
    each = next(d for d in declared() if d.name == name)
    where = origins.get(name, "flag")
    if where in ("flag", "default", each.env):
        return f"{where + ': ' if where == each.env else ''}{misfit(name, value, each.type, problem)}"
    return f"{where}: {misfit(f'{each.key} in [{each.section}]', value, each.type, problem)}"


class GeometrySettings(Group, frozen=True):
    """How the directions of several languages are compared; no setting of experiments, `geometry` has its own flags."""

    reference: str | None = None  # language on whose direction all are projected; None: the first
    at: tuple[int, int] | None = None  # position and layer; None: the most reliable place
    halves: Count = 50  # random splits behind the noise ceiling
    permutations: Count = 999  # shuffles of the labels behind each p
    separation_permutations: Count = 99  # shuffles behind each p of separability
    components: Count = 3  # dimensions of the compared subspaces
