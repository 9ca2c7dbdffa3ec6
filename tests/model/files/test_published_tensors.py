"""Files of torch that are hostile: code, records that unfold, tensors that claim what is not there. None is opened."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.torture import hostile_files
from refusalctl.errors import DataError
from refusalctl.model.files import published_tensors


class Chosen:
    """A random generator that always chooses one thing."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def choice(self, kinds: tuple[str, ...]) -> str:
        assert self.kind in kinds
        return self.kind


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("stride zero", "claims 4,398,046,511,104 numbers"),
        ("sparse", "without plain numbers"),
        ("meta", r"plain numbers|more than tensors|cannot be read"),
        ("old form", "no archive of torch's"),
        ("code", "holds more than tensors and was not opened"),
        ("packed", "unfolds to more than it is"),
        ("a number", "holds int"),
    ],
)
def test_what_is_no_plain_tensor_is_one_line(
    tmp_path: Path, kind: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mean_diffs.pt"
    hostile_files.torch_file(path, Chosen(kind))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=words):
        published_tensors.candidates(path)
    assert not (tmp_path / "unpickled-here").exists()


def test_a_plain_tensor_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mean_diffs.pt"
    torch.save(torch.arange(24.0).reshape(2, 3, 4).to(torch.bfloat16), path)
    assert published_tensors.candidates(path).shape == (2, 3, 4)
