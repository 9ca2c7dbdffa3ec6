"""Prompts run again and again with savings, against plain passes, in every decoder family."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch

from refusalctl.errors import ModelError
from refusalctl.model import forward
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.hooks import Checks, Intervention, Session, intervene, record
from refusalctl.model.residual import block_input
from refusalctl.model.savings import beginnings, cuda_graphs, shared_beginning, sweeps
from refusalctl.model.savings.cuda_graphs import CapturedPass
from refusalctl.model.savings.sweeps import Sweeps
from tests import exactness
from tests.exactness import interventions
from tests.families import FAMILIES, build, direction
from tests.tiny import tokenizer

SHORT, LONG = [[5], [6]], [[5], [9, 11, 200], [9, 12]]
WANTED = {"harmful": "opening", "harmless": "next"}
# masks that count columns, or states instead of positions; MPT's distances count padding, which the proof finds out
UNSHARED = {
    "Mistral", "Gemma 2", "Gemma 3", "Gemma 4", "Cohere 2", "OLMo 3", "EXAONE 4", "gpt-oss", "Llama 4", "MPT",
    "Qwen3-Next", "LFM2",
}  # fmt: skip
# blocks that return attention weights beside the stream
RUN_WHOLE = {"Falcon", "Falcon, new decoder", "Falcon, sequential, ALiBi", "GPT-J", "BLOOM", "MPT"}


@pytest.mark.parametrize("name", ["Llama", "Gemma 2", "Falcon", "LFM2"])
def test_streams_equal_those_of_plain_passes(name: str) -> None:
    model = exactness.chat_model(name)
    fast = Sweeps(model, prompts(), SHORT, 3, layers=[2, 0, 1])
    for asked in asked_of():
        for ran in fast.run(asked, WANTED):
            for i, found in zip(ran.indices, ran.streams):
                row, out = prompts()[ran.kind][i], torch.empty(1, 1, 3, 32)
                with intervene(model.residual, asked), record(model.residual, [-1], out):
                    model.model(torch.tensor([row]), use_cache=False)
                torch.testing.assert_close(found, out[0, 0, [2, 0, 1]], atol=2e-4, rtol=2e-4)


@cache
def prompts(beginning: str = "Please, now and here, ") -> dict[str, list[list[int]]]:
    chat = exactness.chat_model("Llama").chat
    texts = {"harmful": exactness.TEXTS, "harmless": ("What?", "Ok, a longer one then, I say", "x")}
    return {kind: [chat.encode(beginning + text) for text in each] for kind, each in texts.items()}


def asked_of() -> list[Intervention]:
    r = interventions()["ablate"].direction
    return [Intervention(), Intervention("ablate", r), *(Intervention("add", r, layer) for layer in range(3))]


def furthest(model: ChatModel, fast: Sweeps, asked: Intervention, wanted=None) -> float:  # type: ignore[no-untyped-def]
    """Largest difference of any score to passes of one prompt at a time."""
    worst = 0.0
    for ran in fast.run(asked, wanted or WANTED):
        rows = [prompts()[ran.kind][i] for i in ran.indices]
        plain = forward.last_logprobs(model, rows, asked, 1)
        worst = max(worst, float((ran.logprobs.cpu() - plain).abs().max()))
        if ran.opening is not None:
            plain = forward.opening_logprob(model, rows, fast.openings, asked, 1)
            worst = max(worst, float((ran.opening.cpu() - plain).abs().max()))
    return worst


CASES = [*((name, LONG) for name in FAMILIES), *((name, SHORT) for name in ("Llama", "Qwen3-Next", "GPT-2"))]


@pytest.mark.parametrize(("name", "openings"), CASES, ids=[f"{n}, {len(o)} openings" for n, o in CASES])
def test_sweeps_equal_plain_passes(name: str, openings: list[list[int]]) -> None:
    model = exactness.chat_model(name)
    fast = Sweeps(model, prompts(), openings, 3)
    assert (fast.shared == 0) == (name in UNSHARED)
    if name not in RUN_WHOLE | UNSHARED:
        assert fast.skips
    assert fast.deviation < 1e-6
    limit = 3e-4 if name in UNSHARED else 5e-5  # recurrences round with the padding: 8e-5 on some processors
    for asked in asked_of():
        assert furthest(model, fast, asked) < limit, (asked.kind, asked.layer)


def test_openings_of_both_classes_and_bfloat16() -> None:
    wanted = {"harmful": "next", "harmless": "opening"}
    assert furthest(exactness.chat_model("Llama"), Sweeps(exactness.chat_model("Llama"), prompts(), LONG, 2),
                    asked_of()[3], wanted) < 5e-5  # fmt: skip
    model = exactness.chat_model("Llama", torch.bfloat16)
    fast = Sweeps(model, prompts(), LONG, 3)
    assert fast.shared
    assert fast.skips
    assert fast.deviation < 0.02


def test_what_is_skipped_is_skipped() -> None:
    """Blocks below an addition do not run, and the shared beginning is one row of its length."""
    model = exactness.chat_model("Llama")
    fast = Sweeps(model, prompts(), SHORT, 8)
    ran: list[tuple[int, tuple[int, ...]]] = []
    for layer, block in enumerate(model.residual.blocks):
        block.self_attn.register_forward_pre_hook(  # type: ignore[operator]
            lambda _m, _a, kwargs, layer=layer: ran.append((layer, tuple(kwargs["hidden_states"].shape[:2]))),
            with_kwargs=True,
        )
    fast.run(asked_of()[4], {"harmful": "next"})
    width = max(map(len, prompts()["harmful"])) - fast.shared
    assert ran == [(2, (1, fast.shared)), (2, (4, width))]


def test_windows_longer_than_the_prompts_share_their_beginning_too() -> None:
    family = FAMILIES["Mistral"]
    FAMILIES["wide window"] = family._replace(settings=family.settings | {"sliding_window": 400})
    try:
        model = ChatModel(build("wide window"), tokenizer(), None)
    finally:
        del FAMILIES["wide window"]
    fast = Sweeps(model, prompts(), LONG, 3)
    assert fast.shared > beginnings.MIN_SHARED
    assert max(furthest(model, fast, asked) for asked in asked_of()) < 5e-5


def test_a_saving_that_changes_the_result_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model = exactness.chat_model("Mistral")  # its window is shorter than these prompts
    monkeypatch.setattr(shared_beginning, "keeps_all", lambda *_: True)
    monkeypatch.setattr(shared_beginning, "holds", lambda *_: True)
    assert not Sweeps(model, prompts(), SHORT, 3).shared
    model = exactness.chat_model("Llama")
    enter = sweeps.entering

    def wrong(residual, layer, kept):  # type: ignore[no-untyped-def]
        kept.entered = [stream * 1.01 for stream in kept.entered]
        return enter(residual, layer, kept)

    monkeypatch.setattr(sweeps, "entering", wrong)
    fast = Sweeps(model, prompts(), SHORT, 3)
    assert fast.shared
    assert not fast.skips
    assert furthest(model, fast, asked_of()[3]) < 5e-5


def test_large_streams_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "MOST_KEPT", 1000)
    assert not Sweeps(exactness.chat_model("Llama"), prompts(), SHORT, 3).skips


def test_a_few_additions_are_not_worth_a_proof() -> None:
    few = Sweeps(exactness.chat_model("Llama"), prompts(), SHORT, 3, additions=sweeps.FEW - 1)
    many = Sweeps(exactness.chat_model("Llama"), prompts(), SHORT, 3, additions=sweeps.FEW)
    assert few.shared
    assert not few.skips
    assert many.skips


def test_where_nobody_knows_how_many_additions_there_will_be_some_are_run_whole_first() -> None:
    model = exactness.chat_model("Llama")
    fast = Sweeps(model, prompts(), SHORT, 3, sure=False)
    for _ in range(sweeps.PATIENCE - 1):
        fast.run(asked_of()[4], WANTED)
    assert not fast.skips
    assert furthest(model, fast, asked_of()[4]) < 5e-5
    assert fast.skips


def test_the_beginning_runs_once_for_all_passes_of_one_intervention() -> None:
    model = exactness.chat_model("Llama")
    fast = Sweeps(model, prompts(), SHORT, 3, sure=False)
    rows: list[int] = []
    model.residual.blocks[0].register_forward_pre_hook(
        lambda _m, args, kwargs: rows.append(block_input(args, kwargs).shape[1]), with_kwargs=True
    )
    for asked in (ABLATIONS[0], ABLATIONS[1], ABLATIONS[0], replace(ABLATIONS[0], strength=0.5)):
        for kind in ("harmful", "harmless"):
            assert furthest(model, fast, asked, {kind: "next"}) < 5e-5
    assert rows.count(fast.shared) == 3


def test_a_run_ends_when_it_is_told_and_leaves_out_what_is_done() -> None:
    fast = Sweeps(exactness.chat_model("Llama"), prompts(), SHORT, 8, steps={"harmless": 3})
    whole = fast.run(ABLATIONS[0], {"harmless": "next"})
    assert [len(ran.indices) for ran in whole] == [1, 1, 1]
    (first,) = fast.run(ABLATIONS[0], {"harmless": "next"}, until=lambda _ran: True)
    rest = fast.run(ABLATIONS[0], {"harmless": "next"}, done=set(first.indices))
    assert [ran.indices for ran in (first, *rest)] == [ran.indices for ran in whole]
    assert fast.run(ABLATIONS[0], {"harmless": "next"}, done=range(3)) == []


def test_fewer_prompts_of_the_same_are_not_proved_again() -> None:
    model = exactness.chat_model("Llama")
    fast, kept = Sweeps(model, prompts(), SHORT, 3), {"harmful": [2, 0], "harmless": [1]}
    fast.narrow(kept)
    assert fast.shared
    assert fast.skips
    found = fast.run(asked_of()[1], WANTED)
    assert [(ran.kind, len(ran.indices)) for ran in found] == [("harmful", 2), ("harmless", 1)]
    for ran in found:
        rows = [prompts()[ran.kind][kept[ran.kind][i]] for i in ran.indices]
        plain = forward.last_logprobs(model, rows, asked_of()[1], 1)
        torch.testing.assert_close(ran.logprobs, plain, atol=5e-5, rtol=0)


def test_nothing_stays_on_the_model_after_an_exception() -> None:
    model = exactness.chat_model("Llama")
    fast = Sweeps(model, prompts(), SHORT, 3)
    plain = fast.run(Intervention(), WANTED)[0].logprobs

    def stop(*_: object) -> None:
        raise RuntimeError("stop")

    handle = model.residual.blocks[2].register_forward_pre_hook(stop)
    with pytest.raises(RuntimeError, match="stop"):
        fast.run(asked_of()[3], WANTED)
    handle.remove()
    assert all("forward" not in vars(block) and not block._forward_pre_hooks for block in model.residual.blocks)
    assert torch.equal(fast.run(Intervention(), WANTED)[0].logprobs, plain)


def test_the_stream_is_checked_under_ablation() -> None:
    fast, checks = Sweeps(exactness.chat_model("Llama"), prompts(), SHORT, 3), Checks()
    fast.run(asked_of()[1], WANTED, checks)
    assert checks.fired > 0
    assert checks.max_projection is not None
    assert checks.max_projection < 1e-4


# --- passes that a GPU repeats ------------------------------------------------------------------------------

REPEATED = ["Llama", "Qwen2", "Gemma", "GPT-NeoX", "Falcon", "OPT"]
ABLATIONS = [Intervention("ablate", direction(seed)) for seed in range(1, 4)]


class Hooked(CapturedPass):  # type: ignore[type-arg]
    """What stands for a recorded pass where there is no GPU: the pass itself, with its hooks on."""

    def run(self, intervention: Intervention):  # type: ignore[no-untyped-def]
        with self.session.on():
            return super().run(intervention)


@pytest.fixture
def repeating(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "can_record", lambda _model: True)
    monkeypatch.setattr(cuda_graphs, "recorded", lambda work, _checks: work)
    monkeypatch.setattr(cuda_graphs, "CapturedPass", Hooked)


@pytest.mark.usefixtures("repeating")
@pytest.mark.parametrize("openings", [SHORT, LONG], ids=["tokens", "longer openings"])
@pytest.mark.parametrize("name", REPEATED)
def test_repeated_passes_equal_plain_ones(name: str, openings: list[list[int]]) -> None:
    model = exactness.chat_model(name)
    fast = Sweeps(model, prompts(), openings, 3)
    streams = Sweeps(model, prompts(), openings, 3, layers=[2, 0])
    plain = Sweeps(model, prompts(), openings, 3, layers=[2, 0], fast=False)
    for asked in ABLATIONS:
        for a, b in zip(streams.run(asked, WANTED), plain.run(asked, WANTED), strict=True):
            torch.testing.assert_close(a.streams, b.streams, atol=2e-4, rtol=2e-4)
    assert streams.repeats
    for asked in (*ABLATIONS, *asked_of()):
        assert furthest(model, fast, asked) < 5e-5, (asked.kind, asked.layer)
    assert fast.repeats
    assert fast.as_json()["repeats_passes"]
    assert furthest(model, fast, ABLATIONS[1], {"harmful": "opening"}) < 5e-5  # another set of classes


@pytest.mark.usefixtures("repeating")
def test_every_repetition_is_checked_by_itself() -> None:
    """What is left along each direction is that direction's, and an ablation that fails is not hidden by the first."""
    fast = Sweeps(exactness.chat_model("Llama"), prompts(), SHORT, 3)
    seen = []
    for asked in ABLATIONS:
        checks = Checks()
        fast.run(asked, WANTED, checks)
        seen.append(checks)
    assert [c.fired for c in seen] == [seen[0].fired] * 3
    assert all(c.max_projection is not None and c.max_projection < 1e-4 for c in seen)
    (again,) = fast._repeated.values()
    assert again is not None
    again.again = lambda: again.again  # type: ignore[method-assign,assignment]
    with torch.inference_mode():
        _, nothing = again.run(ABLATIONS[0])
    with pytest.raises(ModelError, match="was not measured"):
        nothing.verify()


@pytest.mark.usefixtures("repeating")
def test_masks_that_differ_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    masked = cuda_graphs.causal_mask
    monkeypatch.setattr(sweeps, "causal_mask", lambda *asked: masked(*asked) * 0)
    model = exactness.chat_model("Llama")
    fast = Sweeps(model, prompts(), SHORT, 3)
    assert all(part.mask is None for part in fast.parts)
    assert max(furthest(model, fast, asked) for asked in ABLATIONS) < 5e-5
    assert not fast.repeats


@pytest.mark.usefixtures("repeating")
def test_passes_that_differ_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(CapturedPass):  # type: ignore[type-arg]
        """Its hooks are off when it runs."""

    monkeypatch.setattr(cuda_graphs, "CapturedPass", Forgetful)
    model = exactness.chat_model("Llama")
    fast = Sweeps(model, prompts(), SHORT, 3)
    assert max(furthest(model, fast, asked) for asked in ABLATIONS) < 5e-5
    assert not fast.repeats


@pytest.mark.usefixtures("repeating")
def test_passes_that_another_direction_does_not_change_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "replace_direction", lambda _self, _asked: None)
    model = exactness.chat_model("Llama")
    fast = Sweeps(model, prompts(), SHORT, 3)
    assert max(furthest(model, fast, asked) for asked in ABLATIONS) < 5e-5
    assert not fast.repeats


def test_passes_that_cannot_be_recorded_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(sweeps, "can_record", lambda _model: True)
    monkeypatch.setattr(cuda_graphs, "recorded", fails)
    model = exactness.chat_model("Llama")
    fast = Sweeps(model, prompts(), SHORT, 3)
    assert max(furthest(model, fast, asked) for asked in ABLATIONS) < 5e-5
    assert not fast.repeats
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in model.residual.blocks)


@pytest.mark.gpu
@pytest.mark.parametrize("openings", [SHORT, LONG], ids=["tokens", "longer openings"])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_gpu_repeats_passes_that_it_recorded(name: str, openings: list[list[int]]) -> None:
    model, plain = exactness.chat_model(name), exactness.chat_model(name)
    for each in (model, plain):
        each.model.to("cuda")
    fast = Sweeps(model, prompts(), openings, 3)
    for asked in (*ABLATIONS, *asked_of()):
        assert furthest(plain, fast, asked) < 5e-4, (asked.kind, asked.layer)
    assert fast.repeats or name not in REPEATED or name == "Falcon"  # whose own masks are not these
