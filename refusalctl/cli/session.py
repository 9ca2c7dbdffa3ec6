"""What a command works with: the study that its options ask for, and how its results are shown.

`asks` turns declared settings into options of a command, so that an option is written once, in settings.py. The command
gets one `Session` in their place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import cached_property, partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer
from msgspec import Meta

from refusalctl.cli import out
from refusalctl.cli.goal_options import GOAL_OPTIONS, GoalOptions
from refusalctl.disk import given_path
from refusalctl.language_codes import check_code
from refusalctl.records.printed import PrintedResult
from refusalctl.resolve import Resolved, resolve
from refusalctl.setting_values import languages as as_languages
from refusalctl.settings import DEFAULT_STORE as STORE
from refusalctl.settings import STORE_VARIABLE, Declared, declared
from refusalctl.store.names import check_free, check_name

if TYPE_CHECKING:
    from refusalctl.results import Result
    from refusalctl.study import Study

MACHINE = (
    "model",
    "device",
    "dtype",
    "attention",
    "batch_size",
    "system",
    "chat_template",
    "thinking",
    "trust_remote_code",
)
DRAW = ("data", "seed")
SELECT = (
    "rule",
    "max_kl",
    "min_induce",
    "max_layer_share",
    "filter_val",
    "n_train",
    "n_val",
    "positions",
    "layers",
    "judge",
    "criterion",
    "search",
    "refusal_openings",
    "opening_judge",
    "min_opening_auroc",
    "max_think_tokens",
)
EVERYTHING = tuple(each.name for each in declared())
PANELS = {
    "prompts": "Prompts",
    "selection": "Choosing a direction",
    "answers": "Answers and judge",
    "verdict": "Verdict",
    "controls": "Control directions",
    "": "Languages",
}

# --- options that are no settings --------------------------------------------------------------------------


def path_option(flag: str, told: str, envvar: str | None = None) -> Any:
    """An option that takes a path as people write it: `~` and `$VARIABLE` expanded, nothing empty."""
    parser = partial(_given_path, flag)
    return typer.Option(flag, envvar=envvar, help=told, parser=parser, metavar="<path>")


def _given_path(flag: str, text: str | Path) -> Path:
    return given_path(text, flag)


def language_option(flag: str, told: str) -> Any:
    """An option that takes the code of one language, in any spelling: `zh_TW` is `zh-TW`."""
    return typer.Option(flag, help=told, parser=check_code, metavar="<language>")


StoreOption = Annotated[Path, path_option("--store", "Folder of the artifact store.", STORE_VARIABLE)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")]
ExplainOption = Annotated[bool, typer.Option("--explain", help="Show every setting and where it comes from, and stop.")]
ProbeOption = Annotated[
    bool, typer.Option("--probe", help="With --dry-run: load the model, run a few prompts, and forecast the time.")
]
ConfigOption = Annotated[
    Path | None,
    path_option("--config", "Experiment file (TOML); its settings are used where no flag is given."),
]
LangOption = Annotated[str, language_option("--lang", "Language code, such as ba.")]
DEFAULT_STORE = Path(STORE)


def _good_name(name: str | None) -> str | None:
    if name is not None:
        check_name(name)  # now, not after hours of work
    return name


NameOption = Annotated[str | None, typer.Option("--name", help="Give the result a name.", callback=_good_name)]


# --- the session -------------------------------------------------------------------------------------------


class Session:
    """One call of a command. `study` is made when it is first asked for, so that help costs nothing."""

    def __init__(
        self,
        asked: Resolved,
        *,
        store: Path = DEFAULT_STORE,
        name: str | None = None,
        json: bool = False,
        dry_run: bool = False,
        probe: bool = False,
        judge_url: str | None = None,
        goals: GoalOptions | None = None,
    ) -> None:
        if name is not None:
            check_free(store, name)  # now, not after hours of work
        self.asked, self.store, self.name, self.json = asked, store, name, json
        self.dry_run, self.probe, self.judge_url = dry_run, probe, judge_url
        self.goals = goals or GoalOptions()

    @cached_property
    def study(self) -> Study:
        from refusalctl.study import Study

        return Study.of(
            self.asked,
            store=self.store,
            progress=out.progress(quiet=self.json and not out.err.is_terminal),
            dry_run=self.dry_run,
            judge_url=self.judge_url,
        )

    def finish(self, *results: Result, forecast: bool = False) -> None:
        """Name the result and print its id alone on stdout; notes, or the plan of a dry run, go to stderr."""
        if self.dry_run:
            out.plan(self.study.plan, self.study.forecast(probe=self.probe) if forecast else None, json=self.json)
            return
        for note in self.study.notes:
            out.warn(note)
        if self.name is not None:
            self.study.name(self.name, results[-1])
        if self.json:
            rows = [PrintedResult(r.kind, r.id, str(r.path), dict(r.about)) for r in results]
            out.as_json(rows[0] if len(rows) == 1 else rows)
            return
        for each in results:
            out.data(each.id)


def asks(
    *names: str, dry_run: bool = True, named: bool = True, probe: bool = False, file: bool = True, goals: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command options for these settings, and `--store`, `--json`, `--explain`, `--config` and what else is
    asked for; the command's parameter `session` stands for all of them."""
    settings = [each for each in declared() if each.name in names]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = dict(inspect.signature(command, eval_str=True).parameters)
        own.pop("session")

        @wraps(command)
        def run(**values: Any) -> None:
            given = {each.name: _value(each, values) for each in settings}
            config, explain = values.pop("config", None), values.pop("explain")
            mine: dict[str, Any] = {
                key: values.pop(key) for key in ("store", "name", "json", "dry_run", "probe") if key in values
            }
            if goals:
                mine["goals"] = GoalOptions(**{key: values.pop(key) for key in GOAL_OPTIONS})
            if mine.get("probe") and not mine.get("dry_run"):
                raise typer.BadParameter("--probe needs --dry-run")
            asked = resolve(given, config if config is not None else values.get("file"))
            if explain:
                out.explain(asked, settings, json=mine["json"])
                return
            command(session=Session(asked, **mine), **values)

        extra: dict[str, tuple[Any, Any]] = {"store": (StoreOption, DEFAULT_STORE)}
        extra |= {"config": (ConfigOption, None)} if file and "file" not in own else {}
        extra |= {"name": (NameOption, None)} if named else {}
        extra |= {"dry_run": (DryRunOption, False)} if dry_run else {}
        extra |= {"probe": (ProbeOption, False)} if probe else {}
        extra |= GOAL_OPTIONS if goals else {}
        extra |= {"explain": (ExplainOption, False), "json": (JsonOption, False)}
        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own.values()]
        parameters += [p for each in settings for p in _parameters(each)]
        parameters += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for name, (kind, default) in extra.items()
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


# --- one setting as options --------------------------------------------------------------------------------


def _parameters(each: Declared) -> list[inspect.Parameter]:
    panel = PANELS.get(each.group, "") if each.section == "experiment" else "Model and machine"
    told = each.help + (f" Environment: {each.env}." if each.env else "")
    kind, least = (str, None) if each.name in LANGUAGES else _plain(each.type)
    shown: bool | str = each.short or (_as_text(each.default) if each.default not in (None, ()) else False)
    flag = f"{each.flag}/--no-{each.flag.removeprefix('--')}" if kind is bool else each.flag
    option = typer.Option(flag, help=told, min=least, show_default=shown, rich_help_panel=panel)
    found = [_parameter(each.name, kind, option)]
    for value, text in each.values.items():
        found.append(
            _parameter(f"{each.name}__{value}", bool, typer.Option(f"--{value}", help=text, rich_help_panel=panel))
        )
    return found


def _parameter(name: str, kind: Any, option: Any) -> inspect.Parameter:
    annotation = Annotated[kind | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _plain(kind: Any) -> tuple[Any, float | None]:
    """What the command line takes for a setting's type, and its least value."""
    if get_origin(kind) is Annotated:
        inner, *metas = get_args(kind)
        least = next((m.ge for m in metas if isinstance(m, Meta) and m.ge is not None), None)
        return _plain(inner)[0], least
    if get_origin(kind) is tuple:
        return (list[str] if get_args(kind)[0] is str else str), None
    if get_origin(kind) is Literal:
        return str, None
    parts = [part for part in get_args(kind) if part is not type(None)]
    return _plain(parts[0]) if parts else (kind, None)


LANGUAGES = ("sources", "targets")  # given as one text, en,be


def _as_text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(f"{each:g}" if isinstance(each, float) else str(each) for each in value)
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _value(each: Declared, values: dict[str, Any]) -> Any:
    """The value that flags give a setting, None where they give none."""
    given = values.pop(each.name)
    chosen = [value for value in each.values if values.pop(f"{each.name}__{value}")]
    if len(chosen) + (given is not None) > 1:
        listed = " and ".join(f"--{value}" for value in chosen)
        raise typer.BadParameter(f"{listed or each.flag} both set {each.flag}: give one")
    if chosen:
        return chosen[0]
    if given is None or given == []:
        return None
    element = _element(each.type)
    if element is int:
        return numbers(given, each.flag)
    if element is float:
        return _floats(given, each.flag)
    return languages(given) if each.name in LANGUAGES else given


def _element(kind: Any) -> type | None:
    """What a tuple setting holds, None for others."""
    for part in (kind, *get_args(kind)):
        if get_origin(part) is tuple:
            found: type = get_args(part)[0]
            return found
    return None


def numbers(text: str | None, flag: str) -> list[int] | None:
    """`-1,-5` or `4:24:2` (end excluded) to integers. Raises `typer.BadParameter` otherwise."""
    if text is None:
        return None
    try:
        if ":" in text:
            found = list(range(*(int(part) for part in text.split(":"))))
        else:
            found = [int(part) for part in text.split(",")]
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(f"{flag} takes numbers such as 8,12 or 4:24:2, found {text!r}") from error
    if not found:
        raise typer.BadParameter(f"{flag} {text!r} is empty")
    return found


def _floats(text: str, flag: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"{flag} takes numbers such as 1,2,4, found {text!r}") from error


def languages(text: str) -> list[str]:
    """`en,be` to a list without repeats. Raises `BadInput` when it names nothing."""
    found: Any = as_languages(text)
    return list(found)


def with_values(session: Session, values: Iterable[tuple[str, object]]) -> Session:
    """The same session with further settings that a command's own options give."""
    flags = {name: value for name, value in values if value is not None}
    settings = session.asked.settings.changed(**flags) if flags else session.asked.settings
    session.asked = session.asked._replace(settings=settings)
    return session
