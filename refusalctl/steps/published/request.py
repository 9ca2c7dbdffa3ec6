"""What an import is told beside the files, and the step that writes the rows which were read from them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from refusalctl.data.published_runs import INTERVENTIONS
from refusalctl.errors import BadInput
from refusalctl.json_types import JsonObject
from refusalctl.language_codes import check_code
from refusalctl.records.rows import Kind, Row
from refusalctl.stats.selection_rule import Rule
from refusalctl.steps.step import Job, RunChecks, Step
from refusalctl.store import formats

VERSION = 2
UNTOLD_MODEL, UNTOLD_REVISION = "imported", "unknown"


@dataclass(frozen=True)
class Request:
    """What the files cannot say of themselves. `source` is the repository and commit they come from."""

    lang: str | None = None
    source: str = ""
    model: str = UNTOLD_MODEL
    revision: str = UNTOLD_REVISION
    kind: Kind | None = None
    condition: str | None = None
    direction_lang: str | None = None
    rule: Rule | None = None
    pos: int | None = None
    layer: int | None = None

    def __post_init__(self) -> None:
        for name in ("lang", "direction_lang"):
            given = getattr(self, name)
            object.__setattr__(self, name, None if given is None else check_code(given))

    def refuse_unused(self, *, answers: bool, directions: bool, vectors: bool) -> None:
        """Raise `BadInput` for what was told of files that were not given: it would change nothing.

        `answers`: completions, evaluations or labels; `directions`: of a published run; `vectors`: other tools' files.
        """
        meant = (
            (("kind", "condition", "direction_lang"), answers, "completions, evaluations or labels (.json)"),
            (("rule",), directions, "the directions of a published run (.pt with its .json)"),
            (("pos", "layer"), vectors, "directions as .safetensors or .gguf"),
        )
        for names, given, files in meant:
            told = [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) is not None]
            if told and not given:
                raise BadInput(f"{', '.join(told)} is about {files}, none was given", hint="leave it out")

    def needed_lang(self, path: Path) -> str:
        if self.lang is None:
            raise BadInput(f"{path.name} does not say its language", hint="give the language of its prompts: --lang")
        return self.lang

    def with_known(self, *, lang: str | None, model: str | None, revision: str | None, where: str) -> Request:
        """The request with what a file says of itself. Raises `BadInput` where both say it differently."""
        given = {
            "lang": self.lang,
            "model": None if self.model == UNTOLD_MODEL else self.model,
            "revision": None if self.revision == UNTOLD_REVISION else self.revision,
        }
        known = {"lang": lang, "model": model, "revision": revision}
        for name, here in known.items():
            if here is not None and given[name] is not None and given[name] != here:
                raise BadInput(f"{where} says {name} {here}, --{name} says {given[name]}", hint="leave the flag out")
        return replace(self, lang=lang or self.lang, model=model or self.model, revision=revision or self.revision)

    def position(self, known: int | None, where: str) -> int:
        """The position that a direction was read at. Raises `BadInput` where nobody says it, or two say another."""
        if known is not None and self.pos is not None and known != self.pos:
            raise BadInput(f"{where} says position {known}, --pos says {self.pos}", hint="leave the flag out")
        found = known if known is not None else self.pos
        if found is None:
            raise BadInput(
                f"{where} does not say at which position its direction was read",
                hint="give it, counted back from the prompt's end: --pos -1",
            )
        return found

    def about(self, condition: str) -> JsonObject:
        """How a published condition is called here; `ablation_ja` is ablation of the Japanese direction."""
        named = re.fullmatch(r"(ablation|actadd)_([a-z]{2,3})", condition)
        plain, origin = named.groups() if named else (condition, None)
        about: JsonObject = {"intervention": INTERVENTIONS.get(plain, plain), "condition": condition}
        direction_lang = self.direction_lang or origin
        if direction_lang and about["intervention"] != "none":
            about["direction_lang"] = direction_lang
        return about


def rows_step(kind: str, rows: Sequence[Row], file: str) -> Step:
    """The step that writes rows which were read before."""

    def run(job: Job) -> RunChecks:
        formats.write_rows(job.out / file, (row.to_json() for row in rows))
        return {"n": len(rows)}

    return Step(f"import-{kind}", VERSION, kind, run)
