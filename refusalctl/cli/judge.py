"""`refusalctl judge`."""

from __future__ import annotations

from typing import Annotated

import typer

from refusalctl.cli import out
from refusalctl.cli.session import Session, asks
from refusalctl.records.printed import ListedJudge
from refusalctl.setting_words import meant

TEXTS = ("native", "back-translation", "both")


@asks("device", "dtype", "batch_size")
def judge(
    session: Session,
    completions: Annotated[list[str] | None, typer.Argument(help="Completions artifacts.", show_default=False)] = None,
    judges: Annotated[
        list[str] | None,
        typer.Option("--judge", help="NAME or NAME=MODEL; may be given several times.  [default: the setting `judge`]"),
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
        list[str] | None,
        typer.Option("--translations", help="Translations to judge; found without this option if there is one."),
    ] = None,
    translator: Annotated[
        str | None,
        typer.Option(help="Translate what is not translated yet, with this translator; see `refusalctl translate`."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show the judges and stop.")] = False,
) -> None:
    """Label completions as refusal, compliance, degenerate or unparsed (JSONL)."""
    if list_:
        _list(json=session.json)
        return
    if not completions:
        raise typer.BadParameter("name the completions to judge, or --list")
    specs = _specs(judges or [session.asked.settings.answers.judge], judge_model)
    if text not in TEXTS:
        raise typer.BadParameter(f"--text takes {', '.join(TEXTS)}, found {text!r}; {meant(text, TEXTS)}".rstrip("; "))
    session.judge_url = judge_url
    study = session.study
    written = [study.open_completions(reference) for reference in completions]
    study.check_judges(specs, written, text)
    found = []
    texts = study.texts_to_judge(written, text, translations or (), translator)
    for spec in specs:  # one judge after the other: its model is loaded once
        for each, translated in texts:
            found.append(study.labels(each, spec, translations=translated))
            if not found[-1].planned:
                of = " back-translated" if translated else ""
                out.success(f"{spec.partition('=')[0]} {out.about_line(each.about)}{of}: {found[-1].summary()}")
    session.finish(*found)


def _specs(judges: list[str], model: str | None) -> list[str]:
    if model is None:
        return judges
    if len(judges) > 1:
        raise typer.BadParameter("--judge-model belongs to one judge; with several, give --judge NAME=MODEL")
    if "=" in judges[0]:
        raise typer.BadParameter("give the model once: --judge-model or --judge NAME=MODEL")
    return [f"{judges[0]}={model}"]


def _list(*, json: bool) -> None:
    from refusalctl.model.judges import declarations

    rows = declarations()
    if json:
        out.as_json([ListedJudge(**vars(d)) for d in rows])
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
