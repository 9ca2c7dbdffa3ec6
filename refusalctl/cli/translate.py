"""`refusalctl translate`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from refusalctl.cli import options as o
from refusalctl.cli import out

if TYPE_CHECKING:
    from refusalctl.store.store import Artifact


def translate(
    completions: Annotated[list[str], typer.Argument(help="Completions artifacts.", show_default=False)],
    translator: Annotated[
        str,
        typer.Option(
            help="nllb or madlad (local; nllb:MODEL for a folder or hub id), google, or deepl (DEEPL_AUTH_KEY)."
        ),
    ],
    code: Annotated[str | None, typer.Option(help="The translator's own code of the language: kaz_Cyrl.")] = None,
    device: o.DeviceOption = "auto",
    store: o.StoreOption = o.DEFAULT_STORE,
    name: o.NameOption = None,
    dry_run: o.DryRunOption = False,
    json: o.JsonOption = False,
) -> None:
    """Translate completions into English, for `judge --text back-translation` (JSONL). No text is printed.

    A text that cannot be translated stays a failure with its reason. Texts are cached in the store; Ctrl-C is safe.
    """
    from refusalctl.model.translators.into_english import check_spec
    from refusalctl.steps.labelling.translations import translate_completions

    bench = o.workbench(store, o.DEFAULT_MODEL, device=device, dry_run=dry_run)
    written = [bench.store.resolve(reference, "completions") for reference in completions]
    for each in written:
        check_spec(translator, each.about["lang"], code)
    found = []
    for each in written:
        found.append(translate_completions(bench, each, translator, code))
        if not dry_run:
            out.success(f"{out.about_line(each.about)}: {_summary(found[-1])}")
    o.finish(bench, found, name=name, json=json)


def _summary(artifact: Artifact) -> str:
    from refusalctl.steps.labelling.translations import read_translations

    rows = read_translations(artifact)
    failed = Counter(row.failed for row in rows if row.failed)
    why = f" ({', '.join(f'{n} {reason}' for reason, n in failed.most_common())})" if failed else ""
    return f"{len(rows) - failed.total()} of {len(rows)} translated{why}"
