"""`refusalctl data`: prompt sets. Counts and ids only; no command here prints a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refusalctl.cli import out
from refusalctl.cli.session import JsonOption, language_option, languages
from refusalctl.data.safe_names import shown
from refusalctl.records.printed import (
    AddedPrompts,
    FetchedPrompts,
    ListedLanguage,
    ListedPrompts,
    MergedPrompts,
    PromptCount,
    ReadFile,
    TranslatedPrompts,
)
from refusalctl.records.rows import KINDS, SPLITS, Kind, Split
from refusalctl.setting_words import meant
from refusalctl.settings import declared

if TYPE_CHECKING:
    from refusalctl.data.own_sets import MergeResult
    from refusalctl.data.prompt_files import PromptFile
    from refusalctl.records.audit import Audit, Finding, SetAudit
    from refusalctl.steps.prompt_sets import Added, Counts

app = typer.Typer(
    no_args_is_help=True,
    help="Prompt sets: fetch the published prompts, list and audit sets, add or translate languages.",
)

_DATA = next(each for each in declared() if each.name == "data")
DataOption = Annotated[str, typer.Option("--data", envvar=_DATA.env, help=_DATA.help)]
KindOption = Annotated[str | None, typer.Option("--kind", help="harmful or harmless.")]
SplitOption = Annotated[str | None, typer.Option("--split", help="train, val or test.")]
SetOption = Annotated[str, typer.Option("--name", help="Name of your prompt set, for --data.")]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Replace rows whose id exists already.")]


def _kind(text: str | None) -> Kind | None:
    found = next((kind for kind in KINDS if kind == text), None)
    if text is not None and found is None:
        near = meant(text, KINDS)
        raise typer.BadParameter(f"{text!r} is not {' or '.join(KINDS)}; {near}".rstrip("; "), param_hint="--kind")
    return found


def _split(text: str | None) -> Split | None:
    found = next((split for split in SPLITS if split == text), None)
    if text is not None and found is None:
        near = meant(text, SPLITS)
        raise typer.BadParameter(
            f"{text!r} is not one of {', '.join(SPLITS)}; {near}".rstrip("; "), param_hint="--split"
        )
    return found


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Prompt set: polyrefuse, or one that `data ls` lists.")] = "polyrefuse",
    source: Annotated[
        Path | None,
        typer.Option("--from", exists=True, file_okay=False, help="Folder of the published files; no download."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Get a published prompt set, check its files against their digests, and make a clean table per language."""
    from refusalctl.data import field_sets
    from refusalctl.steps import prompt_sets

    published = name == "polyrefuse"
    asked = None if published else field_sets.named(name)
    done = prompt_sets.fetch(source, out.progress(quiet=json)) if published else None
    done = done or prompt_sets.fetch_named(name, source, out.progress(quiet=json))
    lock = None if published else field_sets.lock_of(name)
    unverified = tuple(path for path, each in lock.files.items() if each.proof == field_sets.FIRST) if lock else ()
    if json:
        out.as_json(FetchedPrompts(done.files, done.new, done.rows, name, unverified))
        return
    where = f" in {source}" if source is not None else ""
    out.success(f"{done.files} files{where} read and verified, {done.new} of them new")
    out.success(f"{len(done.rows)} languages, {sum(done.rows.values())} prompts")
    for path in unverified:
        out.warn(f"{path}: no digest was known; it is locked by this first download, and later ones must be the same")
    if asked is not None:
        out.info(f"{asked.title}, {asked.paper}; licence: {asked.licence}; every row is a test prompt")
    out.info(f"see `refusalctl data ls` and `refusalctl data audit --data {name}`")


@app.command("ls")
def ls(json: JsonOption = False) -> None:
    """List sets and languages with the number of prompts of each class and split, and published sets with licences."""
    from refusalctl.data import field_sets
    from refusalctl.steps import prompt_sets

    found = prompt_sets.listing()
    if json:
        lacking = {name: None for name in field_sets.catalog() if name not in found}
        out.as_json([_listed(name, langs) for name, langs in {**found, **lacking}.items()])
        return
    columns = [f"{kind} {split}" for kind in KINDS for split in SPLITS]
    rows = [
        (name, lang, *(_count(counts[k][s]) for k in KINDS for s in SPLITS))
        for name, langs in found.items()
        for lang, counts in (langs or {}).items()
    ]
    out.table("", ("set", "lang", *columns), rows, right=columns)
    published = [
        (name, *_told(name), "yes" if name in found else "no", asked.licence, asked.paper)
        for name, asked in field_sets.catalog().items()
    ]
    out.data("")
    out.table("published sets", ("set", "classes", "digest", "here", "licence", "paper"), published)
    if any("/" in str(cell) for row in rows for cell in row[2:]):
        out.info("a/b: a of b prompts are usable; the rest are duplicates, leaks, blanks or untranslated")
    if any(langs is None for langs in found.values()):
        out.info("polyrefuse: not fetched; run `refusalctl data fetch`")
    out.info("`refusalctl data fetch NAME` gets a published set")


def _told(name: str) -> tuple[str, str]:
    """Classes of a published set, and what its digests rest on."""
    from refusalctl.data import field_sets

    asked = field_sets.named(name)
    proofs = dict.fromkeys(pin.proof or field_sets.FIRST for pin in asked.files.values())
    return " ".join(asked.kinds), ", ".join(proofs) or "no files"


def _listed(name: str, langs: dict[str, Counts] | None) -> ListedPrompts:
    from refusalctl.data import field_sets

    languages = tuple(ListedLanguage(lang, counts) for lang, counts in (langs or {}).items())
    asked = field_sets.catalog().get(name)
    if asked is None:
        return ListedPrompts(name, langs is not None, languages)
    source = f"{asked.home}@{asked.revision}"
    return ListedPrompts(
        name, langs is not None, languages, asked.licence, source, asked.paper, _told(name)[1], asked.missing
    )


def _count(count: PromptCount) -> str:
    return str(count.rows) if count.rows == count.usable else f"{count.usable}/{count.rows}"


@app.command()
def audit(
    data: DataOption = _DATA.default,
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
        out.as_json(audit_findings.with_findings(report))
    else:
        _show_audit(report, audit_findings.findings(report))


def _show_audit(report: Audit, found: Sequence[Finding]) -> None:
    numbers = ("rows", "dup", "leak", "untransl", "html", "with en", "rho", "length", "short")
    out.table(
        f"prompt set {report.data}",
        (
            "lang",
            "class",
            "split",
            "rows",
            "dup",
            "leak",
            "untransl",
            "html",
            "paired by",
            "with en",
            "rho",
            "length",
            "short",
            "identified",
        ),
        [_audit_row(a) for a in report.sets],
        right=numbers,
    )
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
        a.lang,
        a.kind,
        a.split,
        a.rows,
        a.duplicates,
        sum(a.leaks.values()),
        a.untranslated,
        a.html_raw,
        a.pairing,
        a.shared_with_english,
        rho,
        len(a.length_outliers),
        a.identified.too_short,
        _identified(a),
    )


def _identified(a: SetAudit) -> str:
    if a.identified.share is None:
        return "not checked"
    most = next(iter(a.identified.others.items()), None)
    return f"{a.identified.share:.1%}" + (f" ({most[0]}: {most[1]})" if most else "")


@app.command()
def add(
    file: Annotated[
        Path,
        typer.Argument(help="CSV, JSON, JSON lines, Parquet, or text with one prompt a line; - reads standard input."),
    ],
    lang: Annotated[
        str | None, language_option("--lang", "Language code, such as ba, where the file does not say it.")
    ] = None,
    name: SetOption = "own",
    kind: KindOption = None,
    split: SplitOption = None,
    text_column: Annotated[
        list[str] | None,
        typer.Option("--text-column", help="Column of the prompts; of several languages: de=goal_de. Repeatable."),
    ] = None,
    id_column: Annotated[str | None, typer.Option("--id-column", help="Column of the ids; `id` by default.")] = None,
    id_prefix: Annotated[str, typer.Option("--id-prefix", help="Put this before every id of the file.")] = "",
    form: Annotated[
        str | None, typer.Option("--format", help="csv, tsv, txt, json, jsonl or parquet, where the name does not say.")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option("--encoding", help="Encoding of the file, such as cp1252; UTF-8 by default.")
    ] = None,
    replace: ReplaceOption = False,
    json: JsonOption = False,
) -> None:
    """Add prompts of your own or a new language, checked row by row. Use them with --data NAME.

    The column of the prompts is found by its name (text, prompt, goal, instruction, ...), or by languages as names
    (en, de, ...); also read are id, kind, split, text_en and lang. Other columns are left out and named.

    Give the translations of one prompt the same id, or put them into columns of one row: only then are languages
    compared on the same prompts.
    """
    from refusalctl.data.prompt_files import Asked
    from refusalctl.steps import prompt_sets

    columns = tuple(text_column or ())
    asked = Asked(lang, _kind(kind), _split(split), columns, id_column, id_prefix, form, encoding)
    done = prompt_sets.add(file, asked, name=name, again=replace)
    if json:
        out.as_json(_added(done))
        return
    _tell_file(done.file)
    for code, each in done.sets.items():
        out.data(str(each.path))
        out.success(f"{each.added} added, {each.replaced} replaced; {each.total} prompts of {code} in {name!r}")
        _tell_flags(each.flagged)
    for code, n in done.shared.items():
        out.info(f"{n} ids are in {code} too: they count as translations of one prompt")


def _added(done: Added) -> AddedPrompts:
    f = done.file
    read = ReadFile(f.name, f.form, f.columns, f.ignored, f.empty, f.missing)
    merged = {code: MergedPrompts(**_merged(each)) for code, each in done.sets.items()}
    return AddedPrompts(read, merged, done.shared)


def _tell_file(file: PromptFile) -> None:
    """What was read and what was not: counts and names of columns, never a text."""
    columns = ", ".join(f"{lang} in {column!r}" for lang, column in file.columns.items())
    numbered = {row.row for rows in file.rows.values() for row in rows}
    out.info(f"{file.name}: {file.form}; {len(numbered)} rows of prompts ({columns})")
    if file.ignored:
        out.info(f"columns that were not read: {', '.join(map(shown, file.ignored))}")
    if file.empty:
        out.info(f"{len(file.empty)} empty rows were left out ({_numbers(file.empty)})")
    for lang, rows in file.missing.items():
        out.warn(f"{lang}: {len(rows)} rows have no text and were left out ({_numbers(rows)})")


def _numbers(rows: Sequence[int]) -> str:
    return ("row " if len(rows) == 1 else "rows ") + ", ".join(map(str, rows[:8])) + (", ..." if len(rows) > 8 else "")


def _merged(done: MergeResult) -> dict[str, Any]:
    return done._asdict() | {"path": str(done.path)}


def _tell_flags(flagged: dict[str, int]) -> None:
    if flagged:
        out.warn("flagged: " + ", ".join(f"{flag} {n}" for flag, n in flagged.items()))


@app.command()
def translate(
    to: Annotated[str, language_option("--to", "Language code to translate into, such as be.")],
    translator: Annotated[str, typer.Option(help="google, nllb:MODEL (hub id or folder), or file:TABLE (id, text).")],
    data: DataOption = _DATA.default,
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
        out.as_json(
            TranslatedPrompts(**_merged(done.added), source=done.source, resumed=done.resumed, failed=done.failed)
        )
        return
    out.data(str(done.added.path))
    out.success(f"{done.added.total} prompts of {to} in {done.name!r}, {done.resumed} of them from an earlier run")
    if done.failed:
        out.warn(f"{len(done.failed)} prompts have no translation and are left out ({_reasons(done.failed)})")
    out.info(f"machine translation, not reviewed; use it with --data {done.name}")


def _reasons(failed: dict[str, str]) -> str:
    from collections import Counter

    return ", ".join(f"{reason}: {n}" for reason, n in Counter(failed.values()).most_common())
