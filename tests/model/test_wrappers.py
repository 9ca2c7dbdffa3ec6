"""Text models inside image-and-text wrappers: served where the text path is the wrapper's own, else refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from refusalctl.errors import ModelError
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.files.resolve import resolve
from refusalctl.model.forward import last_logprobs
from refusalctl.model.generate import complete
from refusalctl.model.interventions import Intervention
from refusalctl.model.load import foresee, load
from refusalctl.model.wrappers import check_text_path, is_wrapper
from tests import tiny, wrapped


@pytest.mark.parametrize("kind", wrapped.KINDS)
def test_a_wrapped_text_model_says_what_its_wrapper_says(tmp_path: Path, kind: str) -> None:
    ref = resolve(str(wrapped.folder(tmp_path / kind, kind)))
    foresee(ref)
    loaded = load(ref, device="cpu")
    assert is_wrapper(loaded.model)
    assert loaded.residual.n_layers == 3
    rows = [loaded.chat.encode(text) for text in ("Name a colour", "Hi")]
    found = [loaded.model(input_ids=torch.tensor([row])).logits[0, -1].log_softmax(-1) for row in rows]
    vector = torch.randn(loaded.residual.d_model, generator=torch.Generator().manual_seed(0))
    still = last_logprobs(loaded, rows, Intervention("add", 1e-9 * vector, 0), 2)
    torch.testing.assert_close(still, torch.stack(found), rtol=1e-3, atol=1e-3)
    answers = complete(loaded, rows, Intervention("ablate", vector, 0), max_new_tokens=3, batch_size=2)
    for _indices, _answers, checks in answers:
        checks.verify()  # the ablation holds in every block of the text model


def test_a_text_path_that_differs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrapped.model("llava")
    real = type(model).forward

    def forward(self: Any, *args: Any, **given: Any) -> Any:
        if given.get("position_ids") is not None:  # positions counted with the padding, as by a wrapper of its own mind
            given["position_ids"] = torch.arange(given["position_ids"].shape[1])[None].expand_as(given["position_ids"])
        return real(self, *args, **given)

    monkeypatch.setattr(type(model), "forward", forward)
    with pytest.raises(ModelError, match=r"the text part of model .* gives other logits .* off by"):
        check_text_path(ChatModel(model, tiny.tokenizer(), None), "model")
