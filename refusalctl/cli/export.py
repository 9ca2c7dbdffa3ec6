"""`refusalctl artifacts export`: an archive of the store, or files for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refusalctl.cli import out
from refusalctl.cli.session import DEFAULT_STORE, DryRunOption, JsonOption, StoreOption, numbers
from refusalctl.cli.share import AllOption, NamesOption, export_archive
from refusalctl.disk import given_path
from refusalctl.errors import BadInput
from refusalctl.file_errors import printable
from refusalctl.interop.layer_names import GGUF
from refusalctl.records.printed_exports import PrintedExport
from refusalctl.store.references import resolve_all
from refusalctl.store.store import Artifact, Store
from refusalctl.store.verify import require_store

ARCHIVE = "archive"
DIRECTIONS = ("safetensors", "gguf", "transformer-lens", "nnterp", "steering-vectors")
DATASETS = {"dataset": "jsonl", "dataset-parquet": "parquet"}
ARRAYS = ("netcdf", "zarr", "anndata")
FORMATS = (ARCHIVE, *DIRECTIONS, *DATASETS, "inspect", *ARRAYS)
# which formats an option has a meaning for; an option that would be passed over is an error
FITS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("everything", "names"), (ARCHIVE,)),
    **dict.fromkeys(("operation", "coeff", "layers", "unit", "model"), DIRECTIONS),
    **dict.fromkeys(("pos", "layer"), (*DIRECTIONS, *ARRAYS)),
    "model_hint": ("gguf",),
    "with_texts": (*DATASETS, "inspect"),
    "licence": tuple(DATASETS),
}
_TOOLS = "A direction for other tools"
_ROWS = "Answers and labels for other tools"


def export(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            help="What to write: an archive (.tar, .tar.gz), a file, or a folder for a data set.",
            parser=lambda text: given_path(text, "what to write"),
            metavar="FILE",
        ),
    ],
    refs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[REF...]", help="What to export, each as for `show`; a query means all that it fits."),
    ] = None,
    form: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = ARCHIVE,
    everything: AllOption = False,
    names: NamesOption = False,
    operation: Annotated[
        str | None,
        typer.Option(help="What the direction is for: ablate or add.", rich_help_panel=_TOOLS, show_default="ablate"),
    ] = None,
    coeff: Annotated[float, typer.Option(help="With add: how much of it.", rich_help_panel=_TOOLS)] = 1.0,
    layers: Annotated[
        str | None,
        typer.Option(
            help="With add: the layers at whose entry it acts, such as 8,12 or 4:24.",
            rich_help_panel=_TOOLS,
            show_default="its own",
        ),
    ] = None,
    unit: Annotated[bool, typer.Option("--unit", help="Scale it to length 1.", rich_help_panel=_TOOLS)] = False,
    pos: Annotated[
        int | None, typer.Option(help="Position of a candidate, or of activations.", rich_help_panel=_TOOLS)
    ] = None,
    layer: Annotated[
        int | None, typer.Option(help="Layer of a candidate, or of activations.", rich_help_panel=_TOOLS)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Load this model, and put the fingerprint of its weights into the header.", rich_help_panel=_TOOLS
        ),
    ] = None,
    model_hint: Annotated[
        str | None,
        typer.Option(help="gguf: the architecture's name in llama.cpp, such as qwen2.", rich_help_panel=_TOOLS),
    ] = None,
    with_texts: Annotated[
        bool,
        typer.Option(
            "--with-texts",
            help="Write prompts and answers too, which may be harmful; else their SHA-256.",
            rich_help_panel=_ROWS,
        ),
    ] = False,
    licence: Annotated[
        str | None, typer.Option("--license", help="Licence of the data set, for its card.", rich_help_panel=_ROWS)
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace what is there.")] = False,
    dry_run: DryRunOption = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Write artifacts into one archive with all that they were made from, or, with --format, into files of other tools.

    An archive is read by `artifacts import`, and the same artifacts give the same bytes. Directions in files of other
    tools are read by `refusalctl import`. No format holds a model.
    """
    if form not in FORMATS:
        raise typer.BadParameter(f"--format takes {', '.join(FORMATS)}, found {form!r}")
    _check_fits(context, form)
    if form == ARCHIVE:
        export_archive(file, refs, everything, names, replace, dry_run, store, json)
        return
    opened = Store(store, out.warn)
    require_store(opened)
    chosen = [found for ref in refs or () for found in resolve_all(opened, ref)]
    _check_target(file, form, replace)
    written = [file]
    if dry_run:
        out.info(f"would write {printable(str(file))} ({form}): {', '.join(a.label for a in chosen)}")
    elif form in DIRECTIONS:
        _direction(
            opened, _one(chosen, form), file, form, operation, coeff, layers, unit, pos, layer, model, model_hint
        )
    elif form in DATASETS:
        from refusalctl.steps.interop.answers import export_dataset

        written = export_dataset(opened, chosen, file, form=DATASETS[form], texts=with_texts, licence=licence)
    elif form == "inspect":
        from refusalctl.steps.interop.answers import export_log

        export_log(opened, _one(chosen, form), file, texts=with_texts)
    else:
        from refusalctl.interop.arrays import ARRAY_FORMS
        from refusalctl.steps.interop.activations import export_activations

        export_activations(chosen, file, next(f for f in ARRAY_FORMS if f == form), pos=pos, layer=layer)
    ids = tuple(a.id for a in chosen)
    if json:
        out.as_json(PrintedExport(form, dry_run, ids, tuple(str(path) for path in written)))
    elif not dry_run:
        out.success(f"{form}: {', '.join(a.label for a in chosen)}")
        for path in written:
            out.data(str(path))


def _check_fits(context: typer.Context, form: str) -> None:
    """Raise a usage error for an option that was given and means nothing in this format."""
    for parameter in context.command.params:
        name = parameter.name or ""
        source, fits = context.get_parameter_source(name), FITS.get(name)
        if fits is not None and form not in fits and source is not None and source.name == "COMMANDLINE":
            able = ", ".join(fits)
            raise typer.BadParameter(f"{parameter.opts[0]} means nothing with --format {form}; it is for {able}")


def _one(chosen: list[Artifact], form: str) -> Artifact:
    if len(chosen) != 1:
        raise BadInput(f"{form} holds one artifact, found {len(chosen)}", hint="name one, such as selection:lang=be")
    return chosen[0]


def _check_target(file: Path, form: str, replace: bool) -> None:
    if form in DATASETS:
        from refusalctl.interop.dataset import check_folder

        check_folder(file, replace=replace)
    elif file.exists() and not replace:
        raise BadInput(f"{printable(str(file))} is there already", hint="--replace replaces it")


def _direction(
    store: Store,
    artifact: Artifact,
    file: Path,
    form: str,
    operation: str | None,
    coeff: float,
    layers: str | None,
    unit: bool,
    pos: int | None,
    layer: int | None,
    model: str | None,
    model_hint: str | None,
) -> None:
    from refusalctl.interop.direction import OPERATIONS
    from refusalctl.settings import Machine
    from refusalctl.steps.interop.directions import AskedDirection, export_direction
    from refusalctl.steps.step import Workbench

    chosen = next((each for each in OPERATIONS if each == operation), None)
    if operation is not None and chosen is None:
        raise typer.BadParameter(f"--operation takes ablate or add, found {operation!r}")
    at = numbers(layers, "--layers")
    asked = AskedDirection(
        operation=chosen,
        coefficient=coeff,
        layers=None if at is None else tuple(at),
        unit=unit,
        pos=pos,
        layer=layer,
        model_hint=model_hint,
    )
    bench = None if model is None else Workbench(store, Machine(model, device="cpu"))
    found = export_direction(artifact, file, form, asked, bench).header
    where = f"at layers {list(found.act_at)}" if found.act_at else "wherever the stream is written"
    out.info(f"{found.operation} {where}; read at layer {found.layer}, position {found.position}, of {found.model}")
    if found.coefficient != 1.0:
        how = f": --control-vector-scaled {file.name}:{found.coefficient:g}" if form == GGUF.format else ""
        out.info(f"the vector is written as it is, its coefficient {found.coefficient:g} is for who applies it{how}")
