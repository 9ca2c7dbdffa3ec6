"""`prompts`: the drawn prompts of one language, class and split, frozen as an artifact."""

from __future__ import annotations

import hashlib

from refusalctl.data import sets
from refusalctl.json_types import JsonObject
from refusalctl.records.rows import Kind, Split
from refusalctl.settings import CAPS, Settings
from refusalctl.steps.prompt_rows import PROMPTS_FILE
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.hashing import canonical
from refusalctl.store.store import Artifact


def _run(job: Job) -> RunChecks:
    rows = sets.pick(job.params["data"], job.params["lang"], job.params["ids"])
    formats.write_rows(job.out / PROMPTS_FILE, (row.to_json() for row in rows))
    return {"n": len(rows)}


DRAW = Step("prompts", 1, "prompts", _run)


def partners(settings: Settings, lang: str, kind: Kind, split: Split) -> list[str]:
    """Languages that share this draw. Harmful prompts must be parallel in all; harmless ones where they can be."""
    everyone = list(dict.fromkeys((*settings.langs, lang)))
    if kind == "harmful":
        return everyone
    return [each for each in everyone if each in sets.parallel(settings.prompts.data, lang, everyone, kind, split)]


def draw_prompts(bench: Workbench, lang: str, kind: Kind, split: Split) -> Artifact:
    """Draw prompts that every language of the settings shares, and freeze this language's texts.

    A language whose harmless prompts are no translations of the others' gets its own draw, and a note says so.
    """
    asked = bench.settings.prompts
    group = partners(bench.settings, lang, kind, split)
    apart = [other for other in bench.settings.langs if other not in group]
    if apart:
        bench.note(f"{lang}: its {kind} {split} prompts are not parallel with {', '.join(apart)}: another draw")
    n = asked.n(split)
    ids = sets.draw(asked.data, group, kind, split, n, asked.seed)
    ids = ids if n is not None else ids[: CAPS[split]]
    rows = sets.pick(asked.data, lang, ids)
    content = hashlib.sha256(b"\n".join(canonical(row.to_json()) for row in rows)).hexdigest()
    params: JsonObject = {
        "data": asked.data,
        "lang": lang,
        "kind": kind,
        "split": split,
        "ids": ids,
        "content": content,
    }
    about: JsonObject = {"data": asked.data, "lang": lang, "kind": kind, "split": split, "n": len(ids)}
    return bench.obtain(DRAW, params, {}, about)
