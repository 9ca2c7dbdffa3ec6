"""Half precision against float32: figures with a known answer, and the command that gives them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from refusalctl.cli import app as cli
from refusalctl.model.precision import Outputs, outputs
from refusalctl.stats.precision import Deviation
from refusalctl.stats.precision import deviation as deviation_of
from tests import exactness

TEXTS = {"harmful": ["Hi", "Name a colour."], "harmless": ["What?", "Write three lines about rain, please."]}


def deviation(plain: Outputs, half: Outputs) -> Deviation:
    return deviation_of((plain.logprobs, half.logprobs), (plain.streams, half.streams))


def made(shift: float = 0.0, turned: bool = False) -> Outputs:
    """Two classes that differ along the first axis in both layers; `turned`: in the second layer along both axes."""
    streams = {"harmful": torch.zeros(2, 2, 4), "harmless": torch.zeros(2, 2, 4)}
    for each in streams.values():
        each[..., 3] = 10.0
    streams["harmful"][..., 0] = 1.0
    if turned:
        streams["harmful"][:, 1, 1] = 1.0
    logits = torch.tensor([[2.0, 1.0 + shift, 0.0]] * 2)
    return Outputs(logits.log_softmax(-1).repeat(2, 1), streams)


def test_the_same_outputs_do_not_deviate() -> None:
    found = deviation(made(), made())
    assert found == (4, 0.0, 0.0, 0, 0.0, pytest.approx(1.0))


def test_known_deviations() -> None:
    found = deviation(made(), made(shift=2.0, turned=True))
    p, q = (torch.tensor([2.0, y, 0.0]).double().softmax(0) for y in (1.0, 3.0))
    kl = float((p * (p / q).log()).sum())
    assert found.kl_mean == pytest.approx(kl, rel=1e-5)
    assert found.kl_max == pytest.approx(kl, rel=1e-5)
    assert found.other_first_token == 4
    assert found.stream_max == pytest.approx(1 / 101**0.5)  # one off, of a stream of length sqrt(1 + 100)
    assert found.direction_cosine_min == pytest.approx(0.5**0.5)


def test_bfloat16_deviates_and_float32_does_not() -> None:
    wide, again, half = (
        outputs(exactness.chat_model("Llama", dtype), TEXTS, 2)
        for dtype in (torch.float32, torch.float32, torch.bfloat16)
    )
    assert deviation(wide, again)[1:5] == (0.0, 0.0, 0, 0.0)
    found = deviation(wide, half)
    assert 1e-7 < found.kl_max < 0.1
    assert 1e-4 < found.stream_max < 0.05
    assert 0.9 < found.direction_cosine_min < 1.0


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_command(dtype: str, tiny_folder: Path, capsys, monkeypatch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    asked = ["doctor", "--precision", "--model", str(tiny_folder), "--dtype", dtype, "--store", str(tmp_path), "--json"]
    monkeypatch.setattr(sys, "argv", ["refusalctl", *asked])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    captured = capsys.readouterr()
    if dtype == "float32":
        assert stopped.value.code == 1
        assert captured.out == ""
        assert "--dtype bfloat16" in captured.err
        return
    assert not stopped.value.code
    found = json.loads(captured.out)["precision"]
    assert found["dtype"] == dtype
    assert found["n"] == 48
    assert 0 < found["kl_max"] < 1
