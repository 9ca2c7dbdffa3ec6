"""api.md: the public names of the package, of studies and of results, from their signatures and docstrings.

Made as text, not by an extension of the site's generator: it is read on GitHub too, a test sees when it is stale, and
nothing has to be imported to build the site.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import refusalctl as rc
from refusalctl import results

BEGIN = """\
What `import refusalctl as rc` offers. Signatures and texts are those of the code; [library.md](library.md) shows how it
is used, with examples that run. Names that are not here may change without notice."""
PARTS: dict[str, tuple[str, ...]] = {
    "A study": ("Study", "open", "transfer"),
    "Interventions": ("ablate", "add", "intervene", "load_direction", "Intervention", "Candidate", "Behaviour"),
    "Settings": ("Settings", "Machine"),
    "Errors": ("RefusalctlError", "BadInput", "EmptySelection", "ModelError", "NotFound", "Ambiguous"),
}
WIDTH = 116


def api(generated: str) -> str:
    """The page. Raises `ValueError` where a public name is in none of its parts."""
    named = {name for names in PARTS.values() for name in names}
    if missing := set(rc.__all__) - named - {"__version__"}:
        raise ValueError(f"docs/api_page.py: PARTS lacks {sorted(missing)}")
    lines = ["# Python API", "", generated, "", *BEGIN.splitlines(), ""]
    for title, names in PARTS.items():
        lines += [f"## {title}", ""]
        for name in names:
            lines += described(f"rc.{name}", getattr(rc, name))
    lines += ["## Results", "", *text(results), ""]
    for name in sorted(results.__all__):
        found = getattr(results, name)
        if inspect.isclass(found):
            lines += described(name, found)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def described(name: str, found: Any) -> list[str]:
    """A class with its public members, or a function."""
    head = [f"### `{name}`", ""]
    if not inspect.isclass(found):
        return [*head, *signature(name, found), *text(found), ""]
    above = [each.__name__ for each in found.__bases__ if is_ours(each) and each.__name__ in results.__all__]
    made = signature(name, found) if name.startswith("rc.") and not issubclass(found, Exception) else []
    lines = [*head, *made, *text(found), *([f"Also all that `{above[0]}` has.", ""] if above else [""])]
    for member, value in members(found, inherited=not above):
        if isinstance(value, property | cached_property):
            lines += [f"- `{member}`: {' '.join(text(value))}"]
        else:
            lines += ["", f"#### `{name}.{member}`", "", *signature(member, value), *text(value), ""]
    return [*lines, ""] if lines[-1] else lines


def members(found: type, *, inherited: bool) -> Iterator[tuple[str, Any]]:
    """Public members with a docstring, properties first; with `inherited`, those of our own bases too."""
    homes = [each for each in found.__mro__ if each is found or (inherited and is_ours(each))]
    kept: dict[str, Any] = {}
    for home in homes:
        for name, value in vars(home).items():
            value = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            wanted = isinstance(value, property | cached_property) or inspect.isfunction(value)
            if wanted and not name.startswith("_") and name not in kept and doc(value):
                kept[name] = value
    yield from sorted(kept.items(), key=lambda pair: not isinstance(pair[1], property | cached_property))


def is_ours(found: type) -> bool:
    return found.__module__.startswith("refusalctl")


def doc(found: Any) -> str:
    """The docstring that the thing itself has; not what a class inherits or a dataclass is given."""
    value = found.func if isinstance(found, cached_property) else found
    written = (vars(value) if inspect.isclass(value) else {"__doc__": value.__doc__}).get("__doc__") or ""
    generated = inspect.isclass(value) and written.startswith(f"{value.__name__}(")
    return "" if generated else inspect.cleandoc(written)


def text(found: Any) -> list[str]:
    """A docstring as Markdown: what is indented behind a blank line is code."""
    lines, code = list[str](), False
    for line in doc(found).splitlines():
        indented = line.startswith("    ")
        if indented and not code and (not lines or not lines[-1]):
            lines, code = [*lines, "```text"], True
        elif code and line and not indented:
            lines[-1:] = ["```", ""] if not lines[-1] else [lines[-1], "```", ""]
            code = False
        lines.append(line.removeprefix("    ") if code else line)
    return [*lines, "```"] if code else lines


class Written:
    """An annotation as it stands in the code."""

    def __init__(self, annotation: object) -> None:
        self.annotation = annotation

    def __repr__(self) -> str:
        found = self.annotation
        return re.sub(r"\br\.", "", found if isinstance(found, str) else inspect.formatannotation(found))


def signature(name: str, found: Any) -> list[str]:
    """As it is called, one parameter a line where it is long."""
    try:
        asked = inspect.signature(found)
    except ValueError:
        return []
    empty = inspect.Parameter.empty
    parameters = [
        each if each.annotation is empty else each.replace(annotation=Written(each.annotation))
        for key, each in asked.parameters.items()
        if key not in ("self", "cls")
    ]
    back = asked.return_annotation
    if inspect.isclass(found) or back is empty or back == "None":
        back = empty
    made = inspect.Signature(parameters, return_annotation=back if back is empty else Written(back))
    line = f"{name}{made}"
    if len(line) > WIDTH:
        line = folded(name, made)
    return ["```text", *line.splitlines(), "```", ""]


def folded(name: str, made: inspect.Signature) -> str:
    """one parameter a line."""
    rows, star = list[str](), False
    for each in made.parameters.values():
        if (
            each.kind is each.KEYWORD_ONLY
            and not star
            and not any(p.kind is p.VAR_POSITIONAL for p in made.parameters.values())
        ):
            rows.append("    *,")
        star = star or each.kind in (each.KEYWORD_ONLY, each.VAR_POSITIONAL)
        rows.append(f"    {each},")
    back = "" if made.return_annotation is inspect.Parameter.empty else f" -> {made.return_annotation!r}"
    return "\n".join([f"{name}(", *rows, f"){back}"])
