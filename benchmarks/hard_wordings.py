"""How often the substring judge is wrong on wordings that are hard for a list of phrases, per language.

`python -m benchmarks.hard_wordings` prints the tables of docs/judges.md; `--write` puts them there; `--wrong` names the
ids that are judged wrongly in the part that phrases may be tuned on. The set (`hard_wordings.jsonl`: refusals behind a
polite beginning, reworded, restated, marked up; and answers that only look like refusals) was written and frozen
before the phrases were changed. A third of each class and language, drawn by the digest of its id, is held
out: phrases are not
changed after it. `hard_wordings_before.json` holds the ids that the judge got wrong when the set was frozen.

The part `blind` (`blind_wordings.jsonl`) was written by an author who had not seen the phrases or the other sets.
`blind_wordings_first.json` holds what the judge got wrong when the part was first measured, and in which languages
phrases were mended after that: there, the figures of now are no longer blind. The part `reserve`
(`blind_reserve.jsonl`) was written at the same time by the same author, who then mended the phrases; no phrase was
changed after it was measured.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import command
from refusalctl.data.jsonl import read_jsonl
from refusalctl.model.judges.substring import SubstringJudge
from refusalctl.stats.rates import Rate

HERE = Path(__file__).parent
SET, BEFORE = HERE / "hard_wordings.jsonl", HERE / "hard_wordings_before.json"
BLIND, RESERVE = HERE / "blind_wordings.jsonl", HERE / "blind_reserve.jsonl"
FIRST = HERE / "blind_wordings_first.json"
DOCS = HERE.parent / "docs" / "judges.md"
BEGIN, END = "<!-- hard wordings: written by benchmarks/hard_wordings.py -->", "<!-- end of hard wordings -->"
PARTS = ("tuned", "held out")


class Case(NamedTuple):
    """`why` is the kind of hardness, `part` one of `PARTS`, or `blind` or `reserve`."""

    id: str
    lang: str
    refusal: bool
    why: str
    text: str
    part: str


def cases() -> list[Case]:
    groups = defaultdict(list)
    for row in read_jsonl(SET):
        groups[row["lang"], row["refusal"]].append(row)
    return [Case(**row, part=PARTS[i < len(g) // 3]) for g in groups.values() for i, row in enumerate(_by_digest(g))]


def blind_cases() -> list[Case]:
    return [Case(**row, part="blind") for row in read_jsonl(BLIND)]


def reserve_cases() -> list[Case]:
    return [Case(**row, part="reserve") for row in read_jsonl(RESERVE)]


def _by_digest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: hashlib.sha256(row["id"].encode()).hexdigest())


def wrong(of: Iterable[Case]) -> set[str]:
    """Ids of refusals that are missed and of other answers that are called refusals."""
    judge = SubstringJudge()
    return {c.id for c in of if (judge.judge(c.text, c.lang).outcome == "refusal") != c.refusal}


def table(of: list[Case], before: set[str], now: set[str]) -> Iterator[str]:
    """A row per language and one for all: misses and false alarms before and now, and the error now."""
    head = "| lang | missed refusals: before, now | false alarms: before, now "
    yield head + "| error before | error now (95 % interval) |"
    yield "|---|--:|--:|--:|--:|"
    for lang in (*sorted({case.lang for case in of}), "all"):
        mine = [case for case in of if lang in (case.lang, "all")]
        told = [lang]
        for kind in (True, False):
            ids = {case.id for case in mine if case.refusal == kind}
            told.append(f"{len(ids & before)}, {len(ids & now)} of {len(ids)}")
        ids = {case.id for case in mine}
        rate = Rate(len(ids & now), len(ids))
        limits = rate.wilson()
        told.append(f"{len(ids & before) / len(ids):.0%}")
        told.append(f"{rate.count} of {rate.n}: {rate.value:.0%} ({limits.low:.0%} to {limits.high:.0%})")
        yield f"| {' | '.join(told)} |"


def blind_table(of: list[Case], first: set[str], now: set[str], mended: list[str] | None) -> Iterator[str]:
    """A row per language and one for all: what the judge got wrong at the first measurement, and the error now.

    A language is no longer blind where it is named as mended, or where other texts are judged wrongly than at first;
    `mended` is None for a part of which this is not said.
    """
    yield "| lang | missed refusals | false alarms | error | error now |"
    yield "|---|--:|--:|--:|--:|"
    for lang in (*sorted({case.lang for case in of}), "all"):
        mine = [case for case in of if lang in (case.lang, "all")]
        groups = [[c for c in mine if c.refusal], [c for c in mine if not c.refusal], mine]
        told = [_rate(group, first) for group in groups]
        changed = {case.id for case in mine} & (first ^ now)
        known = mended is not None and (changed or lang in mended or (lang == "all" and mended))
        note = ", not blind" if known else ""
        yield f"| {' | '.join([lang, *told, _rate(mine, now) + note])} |"


def _rate(of: list[Case], bad: set[str]) -> str:
    rate = Rate(sum(case.id in bad for case in of), len(of))
    limits = rate.clopper_pearson()
    return f"{rate.count} of {rate.n}: {rate.value:.0%} ({limits.low:.0%} to {limits.high:.0%})"


def tables() -> str:
    every = cases()
    before, now = set(json.loads(BEFORE.read_text(encoding="utf-8"))["wrong"]), wrong(every)
    lines = []
    for part, title in zip(PARTS, ("Tuned on", "Held out"), strict=True):
        lines += [f"{title}:", "", *table([case for case in every if case.part == part], before, now), ""]
    blind, first = blind_cases(), json.loads(FIRST.read_text(encoding="utf-8"))
    lines += ["Blind (95 % intervals of Clopper and Pearson):", ""]
    lines += [*blind_table(blind, set(first["wrong"]), wrong(blind), first["mended"]), ""]
    reserve = reserve_cases()
    lines += ["Reserve, before the mending and now:", ""]
    lines += [*blind_table(reserve, set(first["reserve"]), wrong(reserve), None), ""]
    return "\n".join(lines)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/judges.md")
    parser.add_argument("--wrong", action="store_true", help="name what is judged wrongly in the tuned part")
    given = parser.parse_args()
    if given.wrong:
        tuned = [case for case in cases() if case.part == "tuned"]
        found = wrong(tuned)
        for case in tuned:
            if case.id in found:
                print(case.id, "missed" if case.refusal else "false alarm", case.why, case.text)
    elif given.write:
        text = DOCS.read_text(encoding="utf-8")
        head, rest = text.split(BEGIN)
        DOCS.write_text(f"{head}{BEGIN}\n\n{tables()}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    else:
        print(tables())


if __name__ == "__main__":
    main()
