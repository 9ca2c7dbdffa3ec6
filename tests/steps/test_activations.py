"""`collect` goes on at the batch where it was interrupted, with the same bytes."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from refusalctl.model import forward
from refusalctl.progress import Advance, Silent
from refusalctl.settings import Machine, Settings
from refusalctl.steps.activations import ACTIVATIONS_FILE, collect_activations
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.step import Workbench
from refusalctl.store import formats
from refusalctl.store.artifact import Artifact
from refusalctl.store.store import Store
from tests import exactness


class StopsAfter(Silent):
    """Interrupts when this many prompts are done."""

    def __init__(self, prompts: int) -> None:
        self.left = prompts

    @contextmanager
    def task(self, what: str, total: int) -> Iterator[Advance]:
        def advance(n: int = 1) -> None:
            self.left -= n
            if what.startswith("collect") and self.left <= 0:
                raise KeyboardInterrupt

        yield advance


def collected(folder: Path, root: Path, progress: Silent) -> Artifact:
    bench = Workbench(Store(root), Machine(str(folder), "cpu", "float32").changed(batch_size=2), progress=progress)
    bench = bench.asking(Settings.of(n_test=8))
    return collect_activations(bench, draw_prompts(bench, "en", "harmless", "test"))


@pytest.mark.parametrize("damage", ["none", "a byte", "cut", "gone"])
def test_an_interrupted_collect_goes_on_at_the_batch_with_the_same_bytes(
    tiny_folder: Path, tmp_path: Path, damage: str
) -> None:
    wanted = collected(tiny_folder, tmp_path / "undisturbed", Silent())
    with pytest.raises(KeyboardInterrupt):
        collected(tiny_folder, tmp_path / "store", StopsAfter(4))
    (partial,) = (path for path in (tmp_path / "store" / "partial").iterdir() if path.is_dir())
    file = partial / ACTIVATIONS_FILE
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 20])
    elif damage == "a byte":  # one of the batches that were finished is not as it was written
        whole = (wanted.path / ACTIVATIONS_FILE).read_bytes()
        place = next(i for i in range(len(whole) - 1, 0, -1) if whole[i] == content[i] != 0)
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    found = collected(tiny_folder, tmp_path / "store", Silent())
    assert found.id == wanted.id
    resumed = Store(tmp_path / "store").run_info(found)["checks"]["resumed"]
    assert resumed == {"none": 4, "a byte": 2, "cut": 0, "gone": 0}[damage]
    assert not list((tmp_path / "store" / "partial").iterdir())


def test_work_is_kept_wherever_the_last_prompt_of_the_file_comes(tmp_path: Path) -> None:
    """HDF5 opens no file that is shorter than it says: one that was never written at its end is as long as it says."""
    path, shape = tmp_path / "a.h5", formats.ActivationShape(4, 1, 2, 3)
    rows = np.arange(12, dtype=np.float32).reshape(2, 1, 2, 3)
    with pytest.raises(KeyboardInterrupt), formats.write_activations(path, shape, {"positions": [-1]}) as writer:
        writer.put([0, 1], rows)
        writer.finish()
        raise KeyboardInterrupt
    assert np.array_equal(formats.map_activations(path)[[0, 1]], rows)


@pytest.mark.parametrize("n", [4, 16])
def test_memory_does_not_grow_with_the_prompts(n: int, tmp_path: Path) -> None:
    """Of all batches the one that is written, the one that is handed over and the one that runs are in memory."""
    model = exactness.chat_model("Llama")
    shape = formats.ActivationShape(2 * n, 1, model.residual.n_layers, model.residual.d_model)
    alive: list[weakref.ref[np.ndarray]] = []  # type: ignore[type-arg]
    most = 0
    with formats.write_activations(tmp_path / "a.h5", shape, {"positions": [-1]}) as writer:
        for indices, batch in forward.activations(model, [model.chat.encode("Hi")] * 2 * n, [-1], 2):
            rows = batch.numpy()
            alive.append(weakref.ref(rows))
            writer.put(indices, rows)
            del batch, rows
            most = max(most, sum(each() is not None for each in alive))
    assert len(alive) == n
    assert most <= 2
