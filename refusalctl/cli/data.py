"""`refusalctl data`: prompt sets. Counts and ids only; no command here prints a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refusalctl.cli import out
from refusalctl.cli.session import JsonOption, LangOption, languages
from refusalctl.records.rows import KINDS, SPLITS, Kind, Split

if TYPE_CHECKING:
    from refusalctl.data.audit import Audit, SetAudit

app = typer.Typer(
    no_args_is_help=True,
    help="Prompt sets: fetch the published prompts, list and audit sets, add or translate languages.",
)

DataOption = Annotated[
    str, typer.Option("--data", envvar="REFUSALCTL_DATA", help="Prompt set: sample, polyrefuse, or your own.")
]
KindOption = Annotated[str | None, typer.Option("--kind", help="harmful or harmless.")]
SplitOption = Annotated[str | None, typer.Option("--split", help="train, val or test.")]
SetOption = Annotated[str, typer.Option("--name", help="Name of your prompt set, for --data.")]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Replace rows whose id exists already.")]


def _kind(text: str | None) -> Kind | None:
    found = next((kind for kind in KINDS if kind == text), None)
    if text is not None and found is None:
        raise typer.BadParameter(f"{text!r} is not {' or '.join(KINDS)}", param_hint="--kind")
    return found


def _split(text: str | None) -> Split | None:
    found = next((split for split in SPLITS if split == text), None)
    if text is not None and found is None:
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(SPLITS)}", param_hint="--split")
    return found


@app.command()
def fetch(
    source: Annotated[
        Path | None,
        typer.Option("--from", exists=True, file_okay=False, help="Folder of the published files; no download."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Get the published PolyRefuse files, check each against the manifest, and make a clean table per language."""
    from refusalctl.steps import prompt_sets

    done = prompt_sets.fetch(source, out.progress(quiet=json))
    if json:
        out.as_json(done._asdict())
        return
    out.success(f"{done.files} files verified, {len(done.rows)} languages, {sum(done.rows.values())} prompts")
    out.info("see `refusalctl data ls` and `refusalctl data audit --data polyrefuse`")


@app.command("ls")
def ls(json: JsonOption = False) -> None:
    """List sets and languages, with the number of prompts of each class and split."""
    from refusalctl.steps import prompt_sets

    found = prompt_sets.listing()
    if json:
        out.as_json([_set_as_json(name, langs) for name, langs in found.items()])
        return
    columns = [f"{kind} {split}" for kind in KINDS for split in SPLITS]
    rows = [
        (name, lang, *(_count(counts[k][s]) for k in KINDS for s in SPLITS))
        for name, langs in found.items()
        for lang, counts in (langs or {}).items()
    ]
    out.table("", ("set", "lang", *columns), rows, right=columns)
    if any("/" in str(cell) for row in rows for cell in row[2:]):
        out.info("a/b: a of b prompts are usable; the rest are duplicates, leaks, blanks or untranslated")
    if any(langs is None for langs in found.values()):
        out.info("polyrefuse: not fetched; run `refusalctl data fetch`")


def _set_as_json(name: str, langs: dict[str, Any] | None) -> dict[str, Any]:
    languages = [
        {"lang": lang, "counts": {k: {s: c._asdict() for s, c in of_kind.items()} for k, of_kind in counts.items()}}
        for lang, counts in (langs or {}).items()
    ]
    return {"name": name, "fetched": langs is not None, "languages": languages}


def _count(count: Any) -> str:
    return str(count.rows) if count.rows == count.usable else f"{count.usable}/{count.rows}"


@app.command()
def audit(
    data: DataOption = "sample",
    lang: Annotated[
        list[str] | None, typer.Option("--lang", help="Language code, or several: --lang ba,be. All by default.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Also look for the control tokens of this model's tokenizer.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Count what is wrong with a set: duplicates, leaks, alignment, languages, lengths, control tokens. Exits 0."""
    from refusalctl.data import audit as auditing
    from refusalctl.data import audit_findings, sets
    from refusalctl.steps.asking import marked_for

    langs = languages(",".join(lang)) if lang else []
    with out.progress(quiet=json).task(f"audit {data}", len(langs) or len(sets.set_languages(data))) as advance:
        report = auditing.audit(data, langs, lambda _done, _total: advance(), marked_for(model))
    if json:
        out.as_json(audit_findings.as_json(report))
    else:
        _show_audit(report, audit_findings.findings(report))


def _show_audit(report: Audit, found: Sequence[Any]) -> None:
    numbers = ("rows", "dup", "leak", "untransl", "html", "with en", "rho", "length", "short")
    out.table(
        f"prompt set {report.data}",
        ("lang", "class", "split", "rows", "dup", "leak", "untransl", "html", "paired by", "with en", "rho", "length",
         "short", "identified"),
        [_audit_row(a) for a in report.sets],
        right=numbers,
    )  # fmt: skip
    out.data("")
    if found:
        rows = [(f.about, f.where, f.count, f.note, _few(f.langs, len(report.langs))) for f in found]
        out.table("findings", ("about", "where", "count", "what", "languages"), rows, right=("count",))
    else:
        out.data("no findings")


def _few(langs: Sequence[str], of: int) -> str:
    return f"all {of}" if len(langs) == of > 6 else ", ".join(langs)


def _audit_row(a: SetAudit) -> tuple[object, ...]:
    rho = "" if a.rho is None else f"{a.rho:.2f}"
    return (
        a.lang, a.kind, a.split, a.rows, a.duplicates, sum(a.leaks.values()), a.untranslated, a.html_raw, a.pairing,
        a.shared_with_english, rho, len(a.length_outliers), a.identified.too_short, _identified(a),
    )  # fmt: skip


def _identified(a: SetAudit) -> str:
    if a.identified.share is None:
        return "not checked"
    most = next(iter(a.identified.others.items()), None)
    return f"{a.identified.share:.1%}" + (f" ({most[0]}: {most[1]})" if most else "")


@app.command()
def add(
    file: Annotated[
        Path, typer.Argument(help="JSON lines or CSV with a column text; also read: id, kind, split, text_en.")
    ],
    lang: LangOption,
    name: SetOption = "own",
    kind: KindOption = None,
    split: SplitOption = None,
    replace: ReplaceOption = False,
    json: JsonOption = False,
) -> None:
    """Add prompts of your own or a new language, checked row by row. Use them with --data NAME.

    Give the translations of one prompt the same id: only then are languages compared on the same prompts.
    """
    from refusalctl.steps import prompt_sets

    done = prompt_sets.add(file, lang, name=name, kind=_kind(kind), split=_split(split), again=replace)
    if json:
        out.as_json(done._asdict())
        return
    out.data(str(done.path))
    out.success(f"{done.added} added, {done.replaced} replaced; {done.total} prompts of {lang} in {name!r}")
    _tell_flags(done.flagged)


def _tell_flags(flagged: dict[str, int]) -> None:
    if flagged:
        out.warn("flagged: " + ", ".join(f"{flag} {n}" for flag, n in flagged.items()))


@app.command()
def translate(
    to: Annotated[str, typer.Option("--to", help="Language code to translate into, such as be.")],
    translator: Annotated[str, typer.Option(help="google, nllb:MODEL (hub id or folder), or file:JSONL.")],
    data: DataOption = "sample",
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the set that is made; DATA-translated by default.")
    ] = None,
    kind: KindOption = None,
    split: SplitOption = None,
    n: Annotated[
        int | None, typer.Option("--n", min=1, help="At most this many prompts of each class and split.")
    ] = None,
    code: Annotated[str | None, typer.Option(help="The translator's own code, where it differs: kaz_Cyrl.")] = None,
    replace: ReplaceOption = False,
    json: JsonOption = False,
) -> None:
    """Make a language from the English prompts of a set, with the same ids. Goes on where it was stopped."""
    from refusalctl.steps import prompt_sets

    request = prompt_sets.Request(to, data, name, _kind(kind), _split(split), n)
    request.english()  # complain before a large model is loaded
    opened = prompt_sets.open_translator(translator, to, code)
    done = prompt_sets.translate(request, opened, out.progress(quiet=json), again=replace)
    if json:
        out.as_json(done.added._asdict() | {"source": done.source, "resumed": done.resumed, "failed": done.failed})
        return
    out.data(str(done.added.path))
    out.success(f"{done.added.total} prompts of {to} in {done.name!r}, {done.resumed} of them from an earlier run")
    if done.failed:
        out.warn(f"{len(done.failed)} prompts have no translation and are left out ({_reasons(done.failed)})")
    out.info(f"machine translation, not reviewed; use it with --data {done.name}")


def _reasons(failed: dict[str, str]) -> str:
    from collections import Counter

    return ", ".join(f"{reason}: {n}" for reason, n in Counter(failed.values()).most_common())
