"""Formats out and back, opened by the libraries that they are for (docs/interop.md).

`python -m benchmarks.round_trips` runs what is installed here; other libraries stand in environments of their own, each
with this project importable: `OTHER/bin/python -m benchmarks.round_trips --only gguf,repeng`. Tiny random models and a
store without texts of harm; nothing is fetched. A deviation is the largest absolute difference between what the other
library's own code makes of the file and what refusalctl does; beside it the same with the layer one off, which shows
what the comparison can see. Exit code 1 where a format does not come back as it went.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import command

LAYER, N_LAYERS, D_MODEL = 2, 4, 32
TOLERANCE = 1e-4  # float32 passes through other code: the order of additions differs


class Row(NamedTuple):
    """One line of the table. `deviation` None: what is compared is equal or not; `one_off`: see the module."""

    format: str
    library: str
    what: str
    deviation: float | None
    one_off: float | None
    good: bool


def version(name: str) -> str:
    return f"{name} {importlib.metadata.version(name)}"


# --- the model, the direction, and what ours does with it ------------------------------------------------


class Ours(NamedTuple):
    """A tiny model, one direction in the store, and token ids to compare on."""

    model: Any
    store: Any
    artifact: Any
    vector: Any
    ids: Any


def ours(folder: Path, architecture: str = "qwen2") -> Ours:
    import torch

    from tests import tiny
    from tests.steps.interop.world import MODEL, directions_store

    model = tiny.model(architecture, n_layers=N_LAYERS, d_model=D_MODEL)
    vector = 2 * torch.randn(D_MODEL, generator=torch.Generator().manual_seed(5))
    store, artifact = directions_store(folder / "store", vector, layer=LAYER, n_layers=N_LAYERS, model=MODEL)
    ids = torch.arange(40, 52)[None]
    return Ours(model, store, artifact, vector, ids)


def exported(at: Ours, folder: Path, form: str, operation: str, layer: int = LAYER) -> Path:
    from refusalctl.steps.interop.directions import AskedDirection, export_direction

    path = folder / f"{form}-{operation}-{layer}.{'gguf' if form == 'gguf' else 'safetensors'}"
    layers = (layer,) if operation == "add" else None
    asked = AskedDirection(operation, layers=layers, model_hint="qwen2")  # type: ignore[arg-type]
    export_direction(at.artifact, path, form, asked)
    return path


def streams(model: Any, ids: Any) -> Any:
    """Every stream that enters a block, as the block gets it, then the logits: one flat tensor."""
    import torch

    kept: list[Any] = []

    def keep(_module: Any, args: Any, kwargs: Any) -> None:
        kept.append((args[0] if args else kwargs["hidden_states"]).reshape(-1).clone())

    hooks = [block.register_forward_pre_hook(keep, with_kwargs=True) for block in model.model.layers]
    try:
        with torch.no_grad():
            found = model(ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat([*kept, found.logits.reshape(-1)])


def ours_under(at: Ours, operation: str, layer: int = LAYER) -> Any:
    import refusalctl as rc

    asked = rc.add(at.vector, 1.0, layer=layer) if operation == "add" else rc.ablate(at.vector)
    with rc.intervene(at.model, asked):
        return streams(at.model, at.ids)


def differs(a: Any, b: Any) -> float:
    return float((a - b).abs().max())


def proven(form: str, library: str, what: str, theirs: Any, at: Ours, operation: str = "add") -> Row:
    """A row that compares streams; the wrong layer must be visible."""
    deviation = differs(theirs, ours_under(at, operation))
    one_off = (
        differs(theirs, ours_under(at, operation, LAYER + 1))
        if operation == "add"
        else differs(theirs, streams(at.model, at.ids))
    )
    return Row(form, library, what, deviation, one_off, deviation < TOLERANCE < one_off / 100)


# --- directions ---------------------------------------------------------------------------------------------


def safetensors_header(folder: Path) -> list[Row]:
    """Written, opened by safetensors alone, and loaded for a model; another model is refused."""
    import torch
    from safetensors import safe_open

    import refusalctl as rc
    from tests import tiny

    at = ours(folder)
    path = exported(at, folder, "safetensors", "ablate")
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["refusalctl"])
        same = torch.equal(file.get_tensor(f"resid_pre.{LAYER}"), at.vector)
    with rc.intervene(at.model, rc.load_direction(path, at.model, unproven=True)):
        found = streams(at.model, at.ids)
    row = proven("safetensors", version("safetensors"), "ablation by `rc.load_direction`", found, at, "ablate")
    try:
        rc.load_direction(path, tiny.model("qwen2", n_layers=N_LAYERS + 1, d_model=D_MODEL), unproven=True)
        refused = False
    except rc.BadInput:
        refused = True
    return [row._replace(good=row.good and same and refused and header["layer"] == LAYER)]


def gguf_file(folder: Path) -> list[Row]:
    """Opened by llama.cpp's own Python reader."""
    import gguf
    import numpy as np

    at = ours(folder)
    reader = gguf.GGUFReader(exported(at, folder, "gguf", "add"))
    tensors = {each.name: np.array(each.data) for each in reader.tensors}
    deviation = float(np.abs(tensors[f"direction.{LAYER - 1}"] - at.vector.numpy()).max())
    return [Row("gguf", version("gguf"), "tensor and keys", deviation, None, deviation == 0 and len(tensors) == 1)]


def llama_cpp(folder: Path) -> list[Row]:
    """Logits of llama.cpp itself with the control vector set, laid out as its `common_control_vector_load` does."""
    import gguf
    import numpy as np
    import torch

    from benchmarks.llama_cpp_model import library, logits, write_qwen2

    at = ours(folder)
    model = folder / "tiny.gguf"
    write_qwen2(model, at.model)
    data = np.zeros((N_LAYERS, D_MODEL), np.float32)  # row N - 1 belongs to direction.N
    for each in gguf.GGUFReader(exported(at, folder, "gguf", "add")).tensors:
        data[int(each.name.removeprefix("direction.")) - 1] = each.data
    ids = at.ids[0].tolist()
    size = len(ids) * at.model.config.vocab_size
    plain = torch.from_numpy(logits(model, ids, None)).reshape(-1)
    found = torch.from_numpy(logits(model, ids, data)).reshape(-1)
    base = differs(plain, streams(at.model, at.ids)[-size:])
    deviation = differs(found, ours_under(at, "add")[-size:])
    one_off = differs(found, ours_under(at, "add", LAYER + 1)[-size:])
    good = deviation < 1e-3 < one_off / 100  # the same model without a vector differs by `base` already
    what = f"logits of llama.cpp under the vector (without one: {base:.0e})"
    return [Row("gguf", f"llama.cpp in {version(library()[2])}", what, deviation, one_off, good)]


def repeng(folder: Path) -> list[Row]:
    """repeng reads our file and steers with it; we read what repeng writes."""
    import torch
    from repeng import ControlModel, ControlVector

    from refusalctl.interop import control_vector

    at = ours(folder)
    vector = ControlVector.import_gguf(exported(at, folder, "gguf", "add"))
    vector.directions = {k: v.copy() for k, v in vector.directions.items()}
    back = folder / "repeng.gguf"
    vector.export_gguf(back)
    read = control_vector.read(back)
    same = list(read.vectors) == [LAYER] and torch.equal(read.vectors[LAYER], at.vector)
    steered = ControlModel(at.model, list(vector.directions))
    steered.set_control(vector, 1.0)
    found = streams(steered.model, at.ids)
    steered.unwrap()
    rows = [proven("gguf", version("repeng"), "streams under `ControlModel.set_control`", found, at)]
    return [*rows, Row("gguf", version("repeng"), "its `export_gguf`, read here", 0.0 if same else None, None, same)]


def steering_vectors(folder: Path) -> list[Row]:
    """A `SteeringVector` made of the file, applied by its own hooks."""
    import torch
    from safetensors.torch import load_file
    from steering_vectors import SteeringVector

    at = ours(folder)
    held = load_file(exported(at, folder, "steering-vectors", "add"))
    vector = SteeringVector({int(name.rpartition(".")[2]): tensor for name, tensor in held.items()}, "decoder_block")
    with torch.no_grad(), vector.apply(at.model):
        found = streams(at.model, at.ids)
    return [proven("steering-vectors", version("steering-vectors"), "streams under `apply`", found, at)]


def transformer_lens(folder: Path) -> list[Row]:
    """Hooks at the names of the file: addition, and ablation at every place where the stream is written."""
    import torch
    from safetensors.torch import load_file
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoTokenizer

    from tests import tiny

    at = ours(folder)
    place = folder / "model"
    at.model.save_pretrained(place)
    tiny.tokenizer().save_pretrained(place)
    tokenizer = AutoTokenizer.from_pretrained(place)
    untouched = ours(folder / "again")  # the same weights: a bridge changes the modules of the model that it is given
    bridge = TransformerBridge.boot_transformers(str(place), hf_model=at.model, tokenizer=tokenizer)
    ((name, vector),) = load_file(exported(at, folder, "transformer-lens", "add")).items()
    unit = vector / vector.norm()

    def add(x: Any, hook: Any) -> Any:  # noqa: ARG001 - hooks are called by name
        return x + vector

    def ablate(x: Any, hook: Any) -> Any:  # noqa: ARG001
        return x - (x @ unit)[..., None] * unit

    def seen(hooks: list[tuple[str, Any]]) -> Any:
        kept: dict[str, Any] = {}
        names = [f"blocks.{i}.hook_resid_pre" for i in range(N_LAYERS)]

        def keep(name: str) -> Any:
            def seen_there(x: Any, hook: Any) -> Any:  # noqa: ARG001
                kept[name] = x.detach().clone()
                return x

            return seen_there

        with torch.no_grad():
            logits = bridge.run_with_hooks(at.ids, fwd_hooks=[*hooks, *((n, keep(n)) for n in names)])
        return torch.cat([*(kept[n].reshape(-1) for n in names), logits.reshape(-1)])

    writes = [("hook_embed", ablate)]
    writes += [(f"blocks.{i}.{w}", ablate) for i in range(N_LAYERS) for w in ("hook_attn_out", "hook_mlp_out")]
    library = version("transformer-lens")
    rows = []
    for operation, hooks in (("add", [(name, add)]), ("ablate", writes)):
        found = seen(hooks)
        deviation = differs(found, ours_under(untouched, operation))
        other = ours_under(untouched, "add", LAYER + 1) if operation == "add" else streams(untouched.model, at.ids)
        one_off = differs(found, other)
        good = deviation < TOLERANCE < one_off / 100
        rows.append(Row("transformer-lens", library, f"streams under hooks: {operation}", deviation, one_off, good))
    return rows


def nnterp(folder: Path) -> list[Row]:
    """`layers_input` of a standardized model, changed in a trace."""
    import torch
    from nnterp import StandardizedTransformer
    from safetensors.torch import load_file

    from tests import tiny

    at = ours(folder)
    ((name, vector),) = load_file(exported(at, folder, "nnterp", "add")).items()
    layer = int(name.removeprefix("layers_input."))
    untouched = ours(folder / "again")  # the same weights
    wrapped = StandardizedTransformer(at.model, tokenizer=tiny.tokenizer(), check_renaming=False)
    with torch.no_grad(), wrapped.trace(at.ids):
        wrapped.layers_input[layer] = wrapped.layers_input[layer] + vector
        found = wrapped.logits.save()
    size = found.numel()
    found = found.reshape(-1).detach()
    deviation = differs(found, ours_under(untouched, "add")[-size:])
    one_off = differs(found, ours_under(untouched, "add", LAYER + 1)[-size:])
    good = deviation < TOLERANCE < one_off / 100
    return [Row("nnterp", version("nnterp"), "logits under `layers_input`", deviation, one_off, good)]


# --- answers, labels, activations, figures --------------------------------------------------------------------


def datasets(folder: Path) -> list[Row]:
    """`load_dataset` on the folder, JSON lines and Parquet: features as the card says, rows as the store has them."""
    from datasets import load_dataset

    from refusalctl.steps.interop.answers import export_dataset
    from tests.steps.interop.world import answers_store

    store, artifacts = answers_store(folder / "answers")
    rows = []
    for form in ("jsonl", "parquet"):
        export_dataset(store, artifacts, folder / form, form=form, texts=True)
        good, n = True, 0
        for name in ("completions", "labels"):
            found = load_dataset(str(folder / form), name, split="test", cache_dir=str(folder / "cache"))
            mine = _rows_of(store, artifacts, name)
            good &= found.to_list() == mine and found.features[next(iter(mine[0]))].dtype == "string"
            n += len(mine)
        rows.append(Row("dataset" if form == "jsonl" else "dataset-parquet", version("datasets"), f"{n} rows equal",
                        None, None, good))  # fmt: skip
    return rows


def _rows_of(store: Any, artifacts: Sequence[Any], name: str) -> list[dict[str, Any]]:
    from refusalctl.steps.interop.answers import tables

    table = next(t for t in tables(store, artifacts, texts=True) if t.name == name)
    return [{column: row[column] for column in table.columns} for row in table.rows]


def croissant(folder: Path) -> list[Row]:
    """mlcroissant validates the metadata, checks the files' SHA-256, and reads the rows through it."""
    import mlcroissant

    from refusalctl.steps.interop.answers import export_dataset
    from tests.steps.interop.world import answers_store

    store, artifacts = answers_store(folder / "answers")
    rows = []
    for form in ("jsonl", "parquet"):
        place = folder / f"croissant-{form}"
        export_dataset(store, artifacts, place, form=form, texts=False, licence="cc-by-4.0")
        data = mlcroissant.Dataset(jsonld=str(place / "croissant.json"))
        told = data.metadata
        warned = len(told.ctx.issues.warnings)
        ids = {
            value.decode() if isinstance(value, bytes) else value
            for record in data.records("labels")
            for key, value in record.items()
            if key == "labels/prompt_id"
        }
        good = (
            told.ctx.is_v1_1()
            and not told.ctx.issues.errors
            and ids == {"p0", "p1", "p2"}
            and bool(told.data_use_cases)
        )
        what = f"Croissant 1.1 with RAI, rows read, {warned} warnings"
        rows.append(Row(f"croissant ({form})", version("mlcroissant"), what, None, None, good))
    return rows


def inspect(folder: Path) -> list[Row]:
    """`read_eval_log` of both kinds of file: scores, answers, and no text where none was asked for."""
    from inspect_ai.log import read_eval_log

    from refusalctl.steps.interop.answers import export_log
    from tests.steps.interop.world import SECRET, answers_store

    store, artifacts = answers_store(folder / "answers")
    labels = next(a for a in artifacts if a.kind == "labels")
    rows = []
    for name, texts in (("with.eval", True), ("without.eval", False), ("with.json", True)):
        path = folder / name
        export_log(store, labels, path, texts=texts)
        log = read_eval_log(str(path))
        samples = log.samples or []
        scores = {str(s.id): s.scores["substring"].value for s in samples if s.scores}
        good = log.status == "success" and scores == {"p0": "refusal", "p1": "compliance", "p2": "degenerate"}
        good &= (SECRET in log.model_dump_json()) == texts
        what = f"{len(samples)} samples, scores equal, {'texts' if texts else 'hashes'} ({path.suffix})"
        rows.append(Row("inspect", version("inspect-ai"), what, None, None, good))
    return rows


def xarray(folder: Path) -> list[Row]:
    """netCDF and zarr, opened by xarray: every value and the names of the axes."""
    import numpy as np
    import xarray as xr

    from refusalctl.steps.interop.activations import export_activations
    from tests.steps.interop.world import activations_store

    artifact, values = activations_store(folder / "activations")
    rows = []
    for form, suffix in (("netcdf", "nc"), ("zarr", "zarr")):
        if importlib.util.find_spec("h5netcdf" if form == "netcdf" else "zarr") is None:
            continue
        path = folder / f"a.{suffix}"
        export_activations([artifact], path, form)  # type: ignore[arg-type]
        found = xr.open_dataset(path, engine="h5netcdf" if form == "netcdf" else "zarr")
        deviation = float(np.abs(found.resid_pre.values - values).max())
        one = found.resid_pre.sel(position=-1, layer=1).values
        good = (
            deviation == 0 and np.array_equal(one, values[:, 1, 1]) and list(found.prompt.values) == ["p0", "p1", "p2"]
        )
        rows.append(Row(form, version("xarray"), "`open_dataset`, `sel` by position and layer", deviation, None, good))
        found.close()
    return rows


def anndata(folder: Path) -> list[Row]:
    """`read_h5ad`: one observation per prompt, position and layer."""
    import anndata as ad
    import numpy as np

    from refusalctl.steps.interop.activations import export_activations
    from tests.steps.interop.world import activations_store

    artifact, values = activations_store(folder / "activations")
    path = folder / "a.h5ad"
    export_activations([artifact], path, "anndata")
    found = ad.read_h5ad(path)
    chosen = found[(found.obs.position == -1) & (found.obs.layer == 1)]
    deviation = float(np.abs(np.asarray(found.X) - values.reshape(-1, values.shape[-1])).max())
    good = deviation == 0 and np.array_equal(np.asarray(chosen.X), values[:, 1, 1])
    return [Row("anndata", version("anndata"), "`read_h5ad`, observations chosen by layer", deviation, None, good)]


def mlflow(folder: Path) -> list[Row]:
    """Figures logged, and found again by a client of MLflow."""
    from mlflow import MlflowClient

    from refusalctl.interop.tracking import address, log
    from refusalctl.steps.interop.figures import figures_of
    from tests.steps.interop.world import answers_store

    _store, artifacts = answers_store(folder / "answers")
    figures = figures_of(next(a for a in artifacts if a.kind == "labels"))
    run = log("mlflow", figures, str(folder / "tracking"), "trial")
    client = MlflowClient(tracking_uri=address(str(folder / "tracking")))
    found = client.get_run(run).data.metrics
    deviation = max(abs(found[name] - value) for name, value in figures.metrics.items())
    good = found.keys() == figures.metrics.keys() and deviation == 0
    name = "mlflow" if importlib.util.find_spec("mlflow") and _has("mlflow") else "mlflow-skinny"
    return [Row("mlflow", version(name), f"{len(found)} numbers by `get_run`", deviation, None, good)]


def wandb(folder: Path) -> list[Row]:
    """An offline run; its numbers are read back from its file, which wandb's Python package cannot read itself."""
    from refusalctl.interop.tracking import log
    from refusalctl.steps.interop.figures import figures_of
    from tests.steps.interop.world import answers_store

    _store, artifacts = answers_store(folder / "answers")
    figures = figures_of(next(a for a in artifacts if a.kind == "labels"))
    log("wandb", figures, str(folder / "runs"), "trial")
    (file,) = {each.resolve() for each in folder.rglob("*.wandb")}
    found = _wandb_numbers(file)
    deviation = max(abs(found[name] - value) for name, value in figures.metrics.items())
    return [Row("wandb", version("wandb"), f"{len(figures.metrics)} numbers, offline", deviation, None, deviation == 0)]


def _wandb_numbers(file: Path) -> dict[str, float]:
    """Numbers of the history in an offline run: records of wandb's own protobuf in a LevelDB log (32 KiB blocks)."""
    from wandb.proto import wandb_internal_pb2

    content, place, whole = file.read_bytes(), 7, b""
    found: dict[str, float] = {}
    while place + 7 <= len(content):
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        if kind == 0:  # the rest of a block is filled up
            place += 32768 - place % 32768
            continue
        whole = (b"" if kind in (1, 2) else whole) + content[place + 7 : place + 7 + length]
        place += 7 + length
        place += 32768 - place % 32768 if 32768 - place % 32768 < 7 else 0
        if kind in (2, 3):
            continue
        record = wandb_internal_pb2.Record()
        record.ParseFromString(whole)
        for item in record.history.item:
            name = item.key or ".".join(item.nested_key)
            if not name.startswith("_"):
                found[name] = float(json.loads(item.value_json))
    return found


def _has(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


CHECKS: dict[str, tuple[str, Callable[[Path], list[Row]]]] = {
    "safetensors": ("safetensors", safetensors_header),
    "gguf": ("gguf", gguf_file),
    "llama.cpp": ("llama_cpp_py_sync", llama_cpp),
    "repeng": ("repeng", repeng),
    "steering-vectors": ("steering_vectors", steering_vectors),
    "transformer-lens": ("transformer_lens", transformer_lens),
    "nnterp": ("nnterp", nnterp),
    "datasets": ("datasets", datasets),
    "croissant": ("mlcroissant", croissant),
    "inspect": ("inspect_ai", inspect),
    "xarray": ("xarray", xarray),
    "anndata": ("anndata", anndata),
    "mlflow": ("mlflow", mlflow),
    "wandb": ("wandb", wandb),
}


def checked(name: str) -> list[Row]:
    """One check in a folder of its own; none where its library is not installed."""
    module, check = CHECKS[name]
    if importlib.util.find_spec(module) is None:
        return []
    with tempfile.TemporaryDirectory() as folder:
        return check(Path(folder))


def number(value: float | None) -> str:
    return "–" if value is None else "0" if value == 0 else f"{value:.1e}"


def main(args: Sequence[str] | None = None) -> None:
    asked = command.parser(__doc__)
    asked.add_argument("--only", type=command.comma_list, default=list(CHECKS), help=f"of {', '.join(CHECKS)}")
    command.add_out(asked)
    chosen = asked.parse_args(args)
    print("| format | opened by | what | deviation | one layer off | |")
    print("|---|---|---|---|---|---|")
    rows: list[Row] = []
    for name in chosen.only:
        found = checked(name)
        for row in found:
            told = "as it went" if row.good else "**differs**"
            cells = (row.format, row.library, row.what, number(row.deviation), number(row.one_off), told)
            print(f"| {' | '.join(cells)} |")
        if not found:
            print(f"{name}: {CHECKS[name][0]} is not installed here", file=sys.stderr)
        rows += found
    command.write_figures(chosen.out, [row._asdict() for row in rows])
    if not all(row.good for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
