"""lm-eval in process: what is kept of its items, and the proof that the model ran under the intervention."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from refusalctl.errors import BadInput, ModelError
from refusalctl.model import harness
from refusalctl.model.harness import HarnessTask
from refusalctl.model.hooks import Checks, Intervention, intervene
from tests import exactness

EVERYDAY = HarnessTask("everyday", Path(__file__).resolve().parents[2] / "examples" / "cost", limit=8)


def ablation(model: Any) -> Intervention:
    return Intervention("ablate", torch.randn(model.residual.d_model, generator=torch.Generator().manual_seed(0)), 0)


def test_a_pass_without_the_intervention_is_an_error() -> None:
    """Somebody who runs a model that is not the hooked one, or takes its hooks away, gets no numbers."""
    model = exactness.chat_model("Llama")
    ids = torch.tensor([[1, 2, 3]])
    asked = ablation(model)
    with intervene(model.residual, asked) as seen, harness._watched(model, asked, seen) as passes:
        model.model(input_ids=ids)
        model.model(input_ids=ids)
    assert len(passes) == 2
    assert min(passes) > 0
    wrong = pytest.raises(ModelError, match="pass 1 of lm-eval ran without the intervention")
    with wrong, harness._watched(model, asked, Checks()):
        model.model(input_ids=ids)
    with harness._watched(model, Intervention(), Checks()) as passes:
        model.model(input_ids=ids)
    assert passes == [0]
    assert not model.residual.root._forward_hooks


def test_items_keep_hashes_and_numbers_and_no_text() -> None:
    row = {"doc_id": 3, "doc": {"question": "SECRET"}, "filter": "none", "doc_hash": "d", "prompt_hash": "p"}
    row |= {"target_hash": "t", "metrics": ["acc", "pair"], "acc": True, "pair": (1.0, 2)}
    items, left_out = harness._items({"b": [row | {"metrics": ["pair"]}], "a": [row]})
    assert items == [harness.HarnessItem("a", "3", "none", "d", "p", "t", {"acc": 1.0})]
    assert left_out == ("a: pair", "b: pair")


def test_without_lm_eval_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_name: str) -> str:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(harness.metadata, "version", absent)
    with pytest.raises(BadInput, match="lm-eval, which is not installed") as caught:
        harness.run_task(exactness.chat_model("Llama"), EVERYDAY, Intervention(), 4, Checks())
    assert "refusalctl[lm-eval]" in str(caught.value)


def test_chosen_positions_have_no_meaning_for_requests() -> None:
    pytest.importorskip("lm_eval")
    model = exactness.chat_model("Llama")
    asked = Intervention("ablate", torch.ones(model.residual.d_model), 0, positions=(-1,))
    with pytest.raises(BadInput, match="no meaning for lm-eval"):
        harness.run_task(model, EVERYDAY, asked, 4, Checks())


def test_a_local_task_runs_on_the_hooked_model_and_nothing_of_it_changes() -> None:
    """Scores are those of a plain calculation from the hooked model's logits."""
    pytest.importorskip("lm_eval")
    import json

    model = exactness.chat_model("Llama")
    before = (model.tokenizer.pad_token_id, model.model.get_output_embeddings().weight.data_ptr())
    asked, checks = ablation(model), Checks()
    plain = harness.run_task(model, EVERYDAY, Intervention(), 4, Checks())
    found = harness.run_task(model, EVERYDAY, asked, 4, checks)
    assert found.passes > 0
    assert checks.fired > 0
    assert [item[:6] for item in found.items] == [item[:6] for item in plain.items]  # the same items, by their hashes
    lines = (EVERYDAY.folder or Path()) / "everyday.jsonl"
    rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()][:8]
    for condition, run in ((Intervention(), plain), (asked, found)):
        with intervene(model.residual, condition), torch.inference_mode():
            chosen = [_best(model, row) for row in rows]
        expected = [float(best == row["answer"]) for best, row in zip(chosen, rows, strict=True)]
        assert [item.metrics["acc"] for item in run.items] == expected
    assert (model.tokenizer.pad_token_id, model.model.get_output_embeddings().weight.data_ptr()) == before
    assert "tie_weights" not in vars(model.model)
    assert harness.count_requests(EVERYDAY) == 32


def _best(model: Any, row: dict[str, Any]) -> int:
    context = model.tokenizer(f"Question: {row['question']}\nAnswer:")["input_ids"]
    scores = []
    for choice in row["choices"]:
        ids = model.tokenizer(f"Question: {row['question']}\nAnswer: {choice}")["input_ids"]
        logprob = model.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        scores.append(sum(float(logprob[i - 1, ids[i]]) for i in range(len(context), len(ids))))
    return scores.index(max(scores))


def test_data_is_looked_for_beside_the_task_and_nowhere_else(tmp_path: Path) -> None:
    inside = {"test": str(tmp_path / "a.jsonl"), "more": [str(tmp_path / "b" / "c.csv")]}
    assert harness._inside(tmp_path, {"test": "a.jsonl", "more": ["b/c.csv"]}) == inside
    for outside in ("../a.jsonl", "/etc/a.jsonl", "https://a.b/c.jsonl", ["a.jsonl", "../../b"]):
        with pytest.raises(BadInput, match="is not in the folder of its YAML file"):
            harness._inside(tmp_path, outside)


def test_a_task_that_is_not_there_is_one_line() -> None:
    pytest.importorskip("lm_eval")
    with pytest.raises(BadInput, match="could not run the task 'nope'"):
        harness.count_requests(EVERYDAY._replace(name="nope"))
