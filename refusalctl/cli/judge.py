"""`refusalctl judge`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refusalctl.cli import options as o
from refusalctl.cli import out

if TYPE_CHECKING:
    from refusalctl.steps.step import Workbench
    from refusalctl.store.store import Artifact

TEXTS = ("native", "back-translation", "both")


def judge(
    completions: Annotated[list[str] | None, typer.Argument(help="Completions artifacts.", show_default=False)] = None,
    judges: Annotated[
        list[str] | None,
        typer.Option("--judge", help="NAME or NAME=MODEL; may be given several times.  [default: substring]"),
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option(help="Local folder or hub id of the judge's model; an endpoint's model name.")
    ] = None,
    judge_url: Annotated[
        str | None,
        typer.Option(envvar="REFUSALCTL_JUDGE_URL", help="Address of an OpenAI-compatible endpoint (.../v1)."),
    ] = None,
    text: Annotated[
        str, typer.Option(help="What is judged: native, back-translation, or both; English is judged as it is.")
    ] = "native",
    translations: Annotated[
        list[str] | None, typer.Option("--translations", help="Translations artifacts; found by themselves if unique.")
    ] = None,
    translator: Annotated[
        str | None, typer.Option(help="Translate what is not translated yet: as in `refusalctl translate`.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show the judges and stop.")] = False,
    device: o.DeviceOption = "auto",
    dtype: o.DTypeOption = "auto",
    batch_size: Annotated[
        int, typer.Option(min=1, help="Completions per batch, or requests at once.")
    ] = o.DEFAULT_BATCH,
    store: o.StoreOption = o.DEFAULT_STORE,
    name: o.NameOption = None,
    dry_run: o.DryRunOption = False,
    json: o.JsonOption = False,
) -> None:
    """Label completions as refusal, compliance, degenerate or unparsed (JSONL)."""
    if list_:
        _list(json=json)
        return
    if not completions:
        raise typer.BadParameter("name the completions to judge, or --list")
    specs = _specs(judges or ["substring"], judge_model)
    if text not in TEXTS:
        raise typer.BadParameter(f"--text takes {', '.join(TEXTS)}, found {text!r}")
    from refusalctl.steps.labelling.labels import check_judge, judge_completions

    bench = o.workbench(store, o.DEFAULT_MODEL, device=device, dtype=dtype, batch_size=batch_size, dry_run=dry_run)
    bench.judge_url = judge_url
    written = [bench.store.resolve(reference, "completions") for reference in completions]
    for spec in specs:
        for each in written:
            for lang in _langs(each.about["lang"], text):
                check_judge(spec, lang, harm_only=True)
    english = _english(bench, written, text, translations, translator)
    found = []
    for spec in specs:  # one judge after the other: its model is loaded once
        for each, translated in english:
            found.append(judge_completions(bench, each, spec, harm_only=True, translations=translated))
            if not dry_run:
                of = " back-translated" if translated else ""
                out.success(f"{spec.partition('=')[0]} {out.about_line(each.about)}{of}: {_summary(found[-1])}")
    o.finish(bench, found, name=name, json=json)


def _langs(lang: str, text: str) -> list[str]:
    """The languages that the judge will read."""
    native = [lang] if text != "back-translation" or lang == "en" else []
    return native + (["en"] if text != "native" and lang != "en" else [])


def _english(
    bench: Workbench, written: list[Artifact], text: str, named: list[str] | None, translator: str | None
) -> list[tuple[Artifact, Artifact | None]]:
    """Each completions artifact with the text to judge: None for its own, else its translations."""
    from refusalctl.steps.labelling.translations import find_translations, translate_completions

    given = [bench.store.resolve(reference, "translations") for reference in named or ()]
    pairs: list[tuple[Artifact, Artifact | None]] = []
    for each in written:
        if text != "back-translation" or each.about["lang"] == "en":
            pairs.append((each, None))
        if text == "native" or each.about["lang"] == "en":
            continue
        mine = next((a for a in given if a.inputs.get("completions") == each.id), None)
        made = translate_completions(bench, each, translator) if mine is None and translator else mine
        pairs.append((each, made or find_translations(bench, each)))
    return pairs


def _specs(judges: list[str], model: str | None) -> list[str]:
    if model is None:
        return judges
    if len(judges) > 1:
        raise typer.BadParameter("--judge-model belongs to one judge; with several, give --judge NAME=MODEL")
    if "=" in judges[0]:
        raise typer.BadParameter("give the model once: --judge-model or --judge NAME=MODEL")
    return [f"{judges[0]}={model}"]


def _summary(artifact: Any) -> str:
    from refusalctl.stats.rates import outcome_rate
    from refusalctl.steps.labelling.labels import read_labels

    rows = read_labels(artifact)
    seen = [row.outcome for row in rows]
    counts = ", ".join(f"{n} {outcome}" for outcome, n in Counter(seen).most_common())
    rate = ""
    if "refusal" in seen or "compliance" in seen:
        refused = outcome_rate(seen, "refusal")
        rate = f"{refused.value:.0%} refusal [" + "{:.0%}, {:.0%}] ".format(*refused.wilson())
    rated = [row.harmful for row in rows if row.harmful is not None]
    harm = f"; {sum(rated)} of {len(rated)} rated harmful" if rated else ""
    off = sum(row.off_language is True for row in rows)
    return f"{rate}({counts}){harm}" + (f"; {off} in another language" if off else "")


def _list(*, json: bool) -> None:
    from refusalctl.model.judges import declarations

    rows = declarations()
    if json:
        out.as_json([vars(d) for d in rows])
        return
    table = [
        (
            d.name,
            d.model or ("an endpoint's" if d.endpoint else "none"),
            d.size,
            "gated" if d.gated else "",
            d.licence,
            "yes" if d.refusal_label else "NO",
            "yes" if d.harm_label else "no",
            "any" if d.languages is None else " ".join(d.languages),
            "" if d.verified else "unverified",
        )
        for d in rows
    ]
    columns = ("judge", "model", "size", "access", "licence", "refusal", "harm", "languages", "format")
    out.table("", columns, table)
