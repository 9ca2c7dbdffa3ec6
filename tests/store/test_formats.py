"""Payload files: they repeat byte for byte, and damaged or foreign ones are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from refusalctl.errors import Corrupt
from refusalctl.steps.directions import DirectionsHeader
from refusalctl.store import formats

ROOT = Path(__file__).resolve().parents[2]
SHAPE = formats.ActivationShape(3, 2, 4, 8)


def activations(path: Path, *, order: tuple[int, ...] = (0, 1, 2)) -> Path:
    rows = np.arange(3 * 2 * 4 * 8, dtype=np.float32).reshape(SHAPE)
    with formats.write_activations(path, SHAPE, {"positions": [-1]}) as writer:
        for i in order:
            writer.put([i], rows[i : i + 1])
    return path


def test_what_goes_wrong_while_a_batch_is_written_is_raised(tmp_path: Path) -> None:
    rows = np.zeros((1, 2, 4, 8), dtype=np.float32)
    with (
        pytest.raises((IndexError, ValueError)),
        formats.write_activations(tmp_path / "a.h5", SHAPE, {"positions": [-1]}) as writer,
    ):
        writer.put([99], rows)


def vectors(path: Path) -> Path:
    formats.write_vectors(
        path, "directions", {"b": torch.ones(3), "a": torch.zeros(2)}, {"positions": [-2, -1], "x": "й"}
    )
    return path


def test_hdf5_repeats_byte_for_byte_whatever_the_order_of_writing(tmp_path: Path) -> None:
    first = activations(tmp_path / "a.h5").read_bytes()
    assert activations(tmp_path / "b.h5", order=(2, 0, 1)).read_bytes() == first


def test_safetensors_repeats_byte_for_byte(tmp_path: Path) -> None:
    assert len({vectors(tmp_path / f"{i}.safetensors").read_bytes() for i in range(8)}) == 1


def test_activations_come_back_in_batches_without_the_instruction_token(tmp_path: Path) -> None:
    path = activations(tmp_path / "a.h5")
    batches = list(formats.activation_batches(path, n_pos=1, size=2))
    assert [tuple(b.shape) for b in batches] == [(2, 1, 4, 8), (1, 1, 4, 8)]
    assert float(batches[1][0, 0, 0, 0]) == 2 * 64


def test_a_prompt_left_out_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match="1 of 3 prompts have no activations"):
        activations(tmp_path / "a.h5", order=(0, 1))


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_truncated_hdf5_file_is_refused(tmp_path: Path, keep: float) -> None:
    path = activations(tmp_path / "a.h5")
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(Corrupt, match="cannot be read"):
        list(formats.activation_batches(path, 1))


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_truncated_safetensors_file_is_refused(tmp_path: Path, keep: float) -> None:
    path = vectors(tmp_path / "v.safetensors")
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(Corrupt, match="cannot be read"):
        formats.read_vectors(path, "directions")


def test_vectors_of_another_kind_or_version_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = vectors(tmp_path / "v.safetensors")
    with pytest.raises(Corrupt, match=r"holds 'refusalctl.directions', expected 'refusalctl.selection'"):
        formats.read_vectors(path, "selection")
    monkeypatch.setattr(formats, "VERSION", 2)
    with pytest.raises(Corrupt, match="format version 1, this refusalctl reads version 2"):
        formats.read_vectors(path, "directions")


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.ones(2)}, tmp_path / "x.safetensors")
    with pytest.raises(Corrupt, match="holds None"):
        formats.read_vectors(tmp_path / "x.safetensors", "directions")


def test_a_row_that_a_kill_cut_short_is_dropped_and_the_file_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    formats.append_rows(path, [{"i": 1}, {"i": 2}])
    with path.open("ab") as out:
        out.write(b'{"i": 3, "te')
    assert [r["i"] for r in formats.read_finished_rows(path)] == [1, 2]
    formats.append_rows(path, [{"i": 3}])
    assert [r["i"] for r in formats.read_finished_rows(path)] == [1, 2, 3]


@pytest.mark.parametrize("damage", [b'{"i": 3, "te\n', b"\0\0\0\n", b"[1]\n"])
def test_rows_behind_a_damaged_line_are_computed_again(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    formats.append_rows(path, [{"i": 1}, {"i": 2}])
    with path.open("ab") as out:
        out.write(damage)
    formats.append_rows(path, [{"i": 4}])
    assert [r["i"] for r in formats.read_finished_rows(path)] == [1, 2]
    formats.append_rows(path, [{"i": 3}])
    assert [r["i"] for r in formats.read_finished_rows(path)] == [1, 2, 3]


def test_damaged_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"format": "refusalctl.trans')
    with pytest.raises(Corrupt, match="cannot be read"):
        formats.read_json(tmp_path / "x.json", "transfer")
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n[1]\n')
    with pytest.raises(Corrupt, match="cannot be read"):
        formats.read_rows(tmp_path / "rows.jsonl")


def test_a_disk_that_fills_while_activations_are_written_is_one_line_and_no_crash(tmp_path: Path) -> None:
    """In a process of its own: HDF5 would crash it at its end."""
    code = (
        "import sys\nimport numpy as np\nfrom pathlib import Path\nfrom refusalctl.store import formats\n"
        "plain, calls = formats._write_all, []\n"
        "def full(file, content):\n"
        "    calls.append(1)\n"
        "    if len(calls) > 2: raise OSError(28, 'No space left on device')\n"
        "    plain(file, content)\n"
        "formats._write_all = full\n"
        f"path, shape = Path({str(tmp_path)!r}) / 'a.h5', formats.ActivationShape(3, 1, 1, 2)\n"
        "with formats.write_activations(path, shape, {}) as w:\n"
        "    for i in range(3): w.put([i], np.ones((1, 1, 1, 2), 'f4'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("refusalctl.errors.StoreError: cannot write")
    assert "the disk is full" in done.stderr


def test_a_limit_on_the_size_of_files_is_seen_before_hdf5_meets_it(tmp_path: Path) -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "from pathlib import Path\nfrom refusalctl.store import formats\n"
        f"path, shape = Path({str(tmp_path)!r}) / 'a.h5', formats.ActivationShape(9, 9, 9, 9)\n"
        "with formats.write_activations(path, shape, {}): pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert "larger than is allowed here" in done.stderr.strip().splitlines()[-1]


def test_a_pointer_or_nothing_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    path = vectors(tmp_path / "v.safetensors")
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(Corrupt, match="Git LFS pointer"):
        formats.read_vectors(path, "directions")
    path.write_bytes(b"")
    with pytest.raises(Corrupt, match="is empty"):
        formats.read_vectors(path, "directions")


def test_a_header_without_a_field_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    formats.write_vectors(path, "directions", {"candidates": torch.zeros(1, 1, 1)}, {"positions": [-1], "splits": 0})
    _tensors, header = formats.read_vectors(path, "directions")
    with pytest.raises(Corrupt, match="suffix_tokens"):
        formats.as_header(path, header, DirectionsHeader)
