"""An audit in sentences: what a reader of results should know about the prompts, each with its number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from msgspec.structs import replace

from refusalctl.data.audit import LENGTH_FACTOR
from refusalctl.data.language_identification import summed
from refusalctl.records.audit import Audit, Finding, Identification, Pool, SetAudit
from refusalctl.records.rows import KINDS, SPLITS

IDENTIFIED = 0.9  # the share of texts below which a language's identification is a finding


def findings(report: Audit) -> list[Finding]:
    """Findings about single sets first, then about languages, then about how sets hang together."""
    return [
        *_per_set(report.sets),
        *_per_language(report.sets),
        *(
            Finding("different samples", f"{p.kind} {p.split}", p.ids, p.langs, f"ids of their own; {_overlap(p)}")
            for p in report.pools
        ),
        *(
            Finding("not independent", f"{c.kind} {c.split}", c.inside, ("en",), f"of {c.rows} rows of {c.file}")
            for c in report.contained
        ),
        *(Finding("both classes", "all", n, (lang,), "prompts") for lang, n in report.in_both_classes.items()),
        *_missing(report.sets, report.langs),
    ]


def _overlap(pool: Pool) -> str:
    return ", ".join(f"{n} shared with {langs}" for langs, n in pool.shared_with_others.items())


def _missing(audits: Sequence[SetAudit], langs: Sequence[str]) -> list[Finding]:
    there = {(a.lang, a.kind, a.split) for a in audits}
    lacking = {(k, s): tuple(lang for lang in langs if (lang, k, s) not in there) for k in KINDS for s in SPLITS}
    return [Finding("missing", f"{k} {s}", 0, langs, "prompts") for (k, s), langs in lacking.items() if langs]


def _per_set(audits: Sequence[SetAudit]) -> list[Finding]:
    """Findings of one class and split: one for all languages that have the same number."""
    grouped: dict[tuple[str, str, int, str], list[str]] = defaultdict(list)
    for a in audits:
        for about, count, note in _numbers(a):
            if count:
                grouped[about, f"{a.kind} {a.split}", count, note].append(a.lang)
    return [Finding(about, where, n, tuple(langs), note) for (about, where, n, note), langs in sorted(grouped.items())]


def _numbers(a: SetAudit) -> list[tuple[str, int, str]]:
    apart = a.rows if a.pairing == "none" else 0
    return [
        ("duplicates", a.duplicates, f"of {a.rows} rows repeat an earlier one"),
        *(("leak", n, f"of {a.rows} rows are in {origin} too") for origin, n in a.leaks.items()),
        ("same text", max(0, a.same_text - a.duplicates), f"of {a.rows} rows read like another whose source differs"),
        ("empty", a.empty, f"of {a.rows} rows"),
        ("control tokens", len(a.control_marks), f"of {a.rows} rows hold marks by which chat formats open turns"),
        ("untranslated", a.untranslated, f"of {a.rows} rows are their English source"),
        ("not aligned", apart, f"rows cannot be paired with English (rho {a.rho})"),
        ("length", len(a.length_outliers), f"of {a.rows} rows over {LENGTH_FACTOR} times longer or shorter than usual"),
    ]


def _per_language(audits: Sequence[SetAudit]) -> list[Finding]:
    """Findings about texts of a language, over all its classes and splits."""
    result = []
    for lang in dict.fromkeys(a.lang for a in audits):
        mine = [a for a in audits if a.lang == lang]
        html, left = sum(a.html_raw for a in mine), sum(a.html_left for a in mine)
        if html:
            note = f"of {sum(a.rows for a in mine)} rows before cleaning, {left} after"
            result.append(Finding("HTML entities", "all", html, (lang,), note))
        result += _language_finding(lang, summed([a.identified for a in mine]))
    return result


def _language_finding(lang: str, found: Identification) -> list[Finding]:
    if found.unknown_to_identifier:
        return [Finding("language", "all", found.checked, (lang,), "texts: the identifier does not know the language")]
    if found.share is None or found.share >= IDENTIFIED:
        return []
    most, n = next(iter(found.others.items()))
    doubt = "; text or identifier is at fault, read some" if found.share < 0.5 else ""
    note = f"of {found.checked} texts identified as another language, {n} of them as {most}{doubt}"
    return [Finding("language", "all", found.checked - found.as_expected, (lang,), note)]


def with_findings(report: Audit) -> Audit:
    """The report with its findings."""
    return replace(report, findings=tuple(findings(report)))
