"""How fast libraries of PyPI record the residual stream, against the bare model, beside `collect`, on the same tokens.

`python -m benchmarks.peers_speed all FOLDER [--n 32 --batch 16 --rounds 5 --out F]` makes one virtual environment per
library below FOLDER (their pins exclude each other's and ours; about 1 GB each) and prints a table. Its parts:

- `export FOLDER`: the weights of `smollm2`, prompts of the sample set as token ids of one length (cut from the left, so
  that nobody pads) and what `collect` records of them: `resid_pre` of all layers at the last five positions.
- `worker PEER FOLDER`: in that library's environment, rounds in which `bare` (the same batches through transformers,
  without hooks and output layer) and the library take turns.

A library records what `collect` does and hands it over as float32 numpy on the CPU, in the leanest way that it
documents; `collect` writes its HDF5 file as well. Times are CPU times on one thread. Where values differ, or a library
cannot be installed or cannot load the weights, the table says so in place of a figure.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import command

Collect = Callable[[Sequence[Tensor]], NDArray[np.float32]]

OWN = "refusalctl"
ROOT = Path(__file__).resolve().parents[1]
AGREE = 1e-3  # largest relative difference of a stream
LAST = 5
TORCH = "torch==2.13.0"


# --- how each library records ---------------------------------------------------------------------------------


def plain(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32, local_files_only=True).eval()


def joined(batches: Sequence[Sequence[Tensor]]) -> NDArray[np.float32]:
    """[n, n_pos, n_layers, d_model] of every batch's layers [batch, n_pos, d_model]."""
    rows = torch.cat([torch.stack(list(layers), dim=2) for layers in batches])
    return np.asarray(rows.float().cpu().numpy())


def transformer_lens(folder: Path) -> Collect:
    bridge = importlib.import_module("transformer_lens.model_bridge").TransformerBridge
    model = bridge.boot_transformers(str(folder / "model"), device="cpu", dtype=torch.float32)
    names = [f"blocks.{layer}.hook_resid_pre" for layer in range(model.cfg.n_layers)]

    def layers(ids: Tensor) -> list[Tensor]:
        _, cache = model.run_with_cache(
            ids, names_filter=names, pos_slice=slice(-LAST, None), return_type=None, logits_to_keep=1
        )
        return [cache[name] for name in names]

    return lambda batches: joined([layers(ids) for ids in batches])


def traced(model: Any, n_layers: int, entering: Callable[[int], Any]) -> Collect:
    """nnsight reads the body of `with` and runs it beside the forward pass, which ends at the last layer's input."""

    def layers(ids: Tensor) -> list[Tensor]:
        found = []
        with model.trace(ids) as tracer:
            for layer in range(n_layers):
                found.append(entering(layer)[:, -LAST:].save())
            tracer.stop()
        return found

    return lambda batches: joined([layers(ids) for ids in batches])


def nnsight(folder: Path) -> Collect:
    model = importlib.import_module("nnsight").TransformersModel(
        str(folder / "model"), task="text-generation", dispatch=True, dtype=torch.float32
    )
    return traced(model, len(model.model.layers), lambda layer: model.model.layers[layer].input)


def nnterp(folder: Path) -> Collect:
    model = importlib.import_module("nnterp").StandardizedTransformer(str(folder / "model"), dtype=torch.float32)
    return traced(model, model.num_layers, lambda layer: model.layers_input[layer])


def steering_vectors(folder: Path) -> Collect:
    record = importlib.import_module("steering_vectors").record_activations
    model = plain(folder).model
    numbers = range(len(model.layers))

    def place(_model: object, number: int) -> str:
        """It records outputs: what enters a block is the output of the one before."""
        return f"layers.{number - 1}" if number else "embed_tokens"

    def layers(ids: Tensor) -> list[Tensor]:
        with record(model, layer_config={"decoder_block": place}, clone_activations=False, layer_nums=numbers) as found:
            model(input_ids=ids, use_cache=False)
        return [found[number][0][:, -LAST:] for number in numbers]

    return lambda batches: joined([layers(ids) for ids in batches])


def own(folder: Path) -> Collect:
    """As the step does it, into an HDF5 file, which is read for the comparison."""
    from refusalctl.model.files.resolve import resolve
    from refusalctl.model.forward import activations
    from refusalctl.model.load import load
    from refusalctl.store import formats

    model = load(resolve(str(folder / "model")), device="cpu", dtype="float32")
    file = folder / "resid_pre.h5"

    def collect(batches: Sequence[Tensor]) -> NDArray[np.float32]:
        rows = [row for ids in batches for row in ids.tolist()]
        shape = formats.ActivationShape(len(rows), LAST, model.residual.n_layers, model.residual.d_model)
        with formats.write_activations(file, shape, {}) as writer:
            for indices, found in activations(model, rows, list(range(-LAST, 0)), len(batches[0])):
                writer.put(indices, found.numpy())
        with formats.open_activations(file) as (data, _header):
            return np.asarray(data[:])

    return collect


class Peer(NamedTuple):
    load: Callable[[Path], Collect]
    requirements: list[str]


PEERS = {
    OWN: Peer(own, []),
    "transformer-lens": Peer(transformer_lens, ["transformer-lens==4.3.0"]),
    "nnsight": Peer(nnsight, ["nnsight==0.8.1"]),
    "nnterp": Peer(nnterp, ["nnterp==1.3.0", "nnsight==0.7.0"]),  # imports a module that nnsight 0.8 has no more
    "steering-vectors": Peer(steering_vectors, ["steering-vectors==0.12.2"]),
}


# --- the parts ------------------------------------------------------------------------------------------------


def export(folder: Path, given: argparse.Namespace) -> None:
    from benchmarks.passes_speed import prompts
    from refusalctl.model.files.resolve import resolve
    from refusalctl.model.load import load

    ref = resolve(given.model)
    (folder / "model").mkdir(parents=True, exist_ok=True)
    for file in ref.folder.iterdir():
        link = folder / "model" / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file.resolve())
    _old_names(folder / "model" / "config.json")
    _texts, rows = prompts(load(ref, device="cpu", dtype="float32"), given.langs, given.n)
    ids = np.array([row[-min(map(len, rows)) :] for row in rows])
    found = own(folder)(batched(ids, given.batch))
    np.savez(folder / "inputs.npz", ids=ids, resid_pre=found, batch=given.batch)


def _old_names(config: Path) -> None:
    """Give the rotary base under the name that transformers before 5 reads, too: it would take its default unasked."""
    value = json.loads(config.read_text(encoding="utf-8"))
    theta = (value.get("rope_parameters") or {}).get("rope_theta")
    config.unlink()
    config.write_text(json.dumps(value | ({"rope_theta": theta} if theta else {})), encoding="utf-8")


def batched(ids: NDArray[np.int64], size: int) -> list[Tensor]:
    return [torch.from_numpy(ids[start : start + size]) for start in range(0, len(ids), size)]


@torch.inference_mode()
def worker(name: str, folder: Path, rounds: int) -> dict[str, Any]:
    """Seconds of every round, and how far the values are from the exported ones; no seconds where that is too far."""
    torch.set_num_threads(1)
    with np.load(folder / "inputs.npz") as given:
        batches, expected = batched(given["ids"], int(given["batch"])), given["resid_pre"]
    value: dict[str, Any] = {"versions": {each: version(each) for each in (name, "torch", "transformers")}}
    collect, model = PEERS[name].load(folder), plain(folder).model

    def bare() -> None:
        for ids in batches:
            model(input_ids=ids, use_cache=False)

    bare()
    value["difference"] = difference(collect(batches), expected)
    if not value["difference"] <= AGREE:
        return value
    work: dict[str, Callable[[], object]] = {"bare": bare, "collect": lambda: collect(batches)}
    value["seconds"] = {each: [] for each in work}
    for turn in range(rounds):
        for each in list(work)[:: 1 if turn % 2 else -1]:
            started = time.process_time()
            work[each]()
            value["seconds"][each].append(time.process_time() - started)
    return value


def difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest distance of a vector to the expected one, relative to that one's length."""
    if found.shape != expected.shape:
        return float("inf")
    away = np.linalg.norm(found - expected, axis=-1)
    return float((away / np.linalg.norm(expected, axis=-1).clip(1e-6)).max())


def environment(name: str, folder: Path) -> Path:
    """Python of the library's environment, made where it is not there. Raises `CalledProcessError`."""
    if name == OWN:
        return Path(sys.executable)
    python = folder / "venvs" / name / "bin" / "python"
    done = python.parent.parent / "installed.json"
    wanted = json.dumps([TORCH, *PEERS[name].requirements])
    if not done.is_file() or done.read_text(encoding="utf-8") != wanted:
        _run([sys.executable, "-m", "venv", str(python.parent.parent)])
        _run([str(python), "-m", "pip", "install", "--quiet", *json.loads(wanted)])
        done.write_text(wanted, encoding="utf-8")
    return python


def _run(arguments: list[str]) -> str:
    """Its stdout; no hub is asked, and one thread computes."""
    env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.run(arguments, check=True, capture_output=True, text=True, env=env, cwd=ROOT).stdout


def measured(name: str, folder: Path, rounds: int) -> dict[str, Any]:
    """What its worker found, or why there is nothing."""
    try:
        python = environment(name, folder)
        said = _run([str(python), "-m", "benchmarks.peers_speed", "worker", name, str(folder), "--rounds", str(rounds)])
    except subprocess.CalledProcessError as error:
        reason = [line for line in error.stderr.strip().splitlines() if line.strip()] or ["no reason given"]
        return {"failed": reason[-1].strip()[:300]}
    value: dict[str, Any] = json.loads(said.splitlines()[-1])
    if "seconds" not in value:
        return value | {"failed": f"differs from collect by {value['difference']:.2g}: no figure is given"}
    pairs = zip(value["seconds"]["bare"], value["seconds"]["collect"])
    ratios = [without / recorded for without, recorded in pairs]
    return value | {"speed": {"median": median(ratios), "min": min(ratios), "max": max(ratios)}}


def line(name: str, value: dict[str, Any]) -> str:
    if "failed" in value:
        return f"{name:17} {value['failed']}"
    about, speed = value["versions"], value["speed"]
    ranged = f"{speed['median']:.2f} ({speed['min']:.2f} to {speed['max']:.2f})"
    return f"{name:17} {about[name]:9}{about['transformers']:14}{ranged:23}{value['difference']:.0e}"


def main(args: Sequence[str] | None = None) -> None:
    parser = command.parser(__doc__)
    parser.add_argument("part", choices=("all", "export", "worker"))
    parser.add_argument("peer", nargs="?", choices=list(PEERS), help="of `worker`")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--langs", type=command.comma_list, default=["en", "de", "be"])
    parser.add_argument("--n", type=int, default=32, help="prompts")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", type=command.comma_list, default=list(PEERS))
    command.add_out(parser)
    given = parser.parse_args(args)
    folder = given.folder.resolve()
    if given.part == "worker":
        print(json.dumps(worker(given.peer, folder, given.rounds)))
        return
    export(folder, given)
    if given.part == "all":
        found = {name: measured(name, folder, given.rounds) for name in given.peers}
        with np.load(folder / "inputs.npz") as inputs:
            shape = inputs["resid_pre"].shape
            print(f"{given.model}, {shape[0]} prompts of {inputs['ids'].shape[1]} tokens, batches of {given.batch}")
        print("library           version  transformers  times as fast as bare  largest difference")
        for name, value in found.items():
            print(line(name, value))
        command.write_figures(given.out, found)


if __name__ == "__main__":
    main()
