"""An intervention does what its words say: where, at which tokens, with what; and refuses what makes no sense."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from refusalctl.errors import BadInput, ModelError
from refusalctl.model.hooks import Checks, Intervention, intervene
from refusalctl.model.intervention_words import spans
from tests import exactness
from tests.exactness import away, chat_model, ids_of, interventions, logits_under
from tests.families import D_MODEL, direction, stream

KINDS = interventions()
ABLATE, AFFINE, SUBSPACE, ADD = (KINDS[k] for k in ("ablate", "affine", "subspace", "add"))


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def model():  # type: ignore[no-untyped-def]
    return chat_model("Llama")


def states(model, asked: Intervention, ids: torch.Tensor | None = None) -> list[torch.Tensor]:  # type: ignore[no-untyped-def]
    ids = ids_of(model) if ids is None else ids
    with intervene(model.residual, asked):
        return stream("Llama", model.model, lambda: model.model(ids, use_cache=False))


@pytest.mark.parametrize("asked", [ABLATE, AFFINE, SUBSPACE], ids=lambda a: a.kind)
def test_chosen_layers_hold_the_stream_from_their_input_to_their_output_and_not_elsewhere(model, asked) -> None:  # type: ignore[no-untyped-def]
    found = [float(away(s, asked).max()) for s in states(model, replace(asked, layers=(1,)))]
    # the input of block 2 is the output of block 1; block 2 writes freely again
    assert found[0] > 0.01
    assert max(found[1:3]) < 1e-5
    assert found[3] > 0.01


def test_layers_with_a_gap_enter_twice(model) -> None:  # type: ignore[no-untyped-def]
    found = [float(away(s, AFFINE).max()) for s in states(model, replace(AFFINE, layers=(2, 0)))]
    assert max(found) < 1e-5
    with intervene(model.residual, replace(AFFINE, layers=(2, 0))) as checks:
        model.model(ids_of(model), use_cache=False)
    assert checks.fired == 2 * (1 + 2)


@pytest.mark.parametrize("asked", [ABLATE, AFFINE, SUBSPACE], ids=lambda a: a.kind)
def test_chosen_positions_are_changed_and_earlier_tokens_are_not(model, asked) -> None:  # type: ignore[no-untyped-def]
    plain = states(model, Intervention())
    found = states(model, replace(asked, positions=(-1, -4)))
    for before, after in zip(plain, found, strict=True):
        assert float(away(after[:, [-1, -4]], asked).max()) < 1e-5
        assert torch.equal(after[:, :-4], before[:, :-4])
    assert float(away(found[1][:, -3:-1], asked).max()) > 0.01


def test_addition_acts_at_the_layers_and_positions_that_were_asked_for(model) -> None:  # type: ignore[no-untyped-def]
    plain = states(model, Intervention())
    asked = replace(ADD, layers=(0,), positions=(-2,), coeff=-3.0)
    found = states(model, asked)
    assert ADD.direction is not None
    torch.testing.assert_close(found[0][:, -2], plain[0][:, -2] - 3.0 * ADD.direction.float())
    assert torch.equal(found[0][:, :-2], plain[0][:, :-2])
    assert torch.equal(found[0][:, -1], plain[0][:, -1])


def test_opposite_coefficients_undo_each_other(model) -> None:  # type: ignore[no-untyped-def]
    ids = ids_of(model)
    with intervene(model.residual, ADD), intervene(model.residual, replace(ADD, coeff=1.5)):
        found = model.model(ids, use_cache=False).logits
    torch.testing.assert_close(found, model.model(ids, use_cache=False).logits, atol=1e-4, rtol=1e-4)


def test_generated_tokens_are_left_alone_when_positions_are_chosen(model) -> None:  # type: ignore[no-untyped-def]
    asked, ids = replace(AFFINE, positions=(-2, -1)), ids_of(model)
    with intervene(model.residual, asked) as checks:
        out = model.model(ids, use_cache=True)
        before = checks.fired
        model.model(torch.tensor([[7]]), past_key_values=out.past_key_values)
        assert checks.fired == before
    assert before == 1 + 2 * 3


def test_positions_beyond_the_prompt_are_refused(model) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadInput, match="a prompt of 3 tokens has no position -4"):
        logits_under(model, replace(ABLATE, positions=(-4,)), torch.tensor([[5, 6, 7]]))


def test_positions_without_a_prompt_are_refused(model) -> None:  # type: ignore[no-untyped-def]
    cache = model.model(ids_of(model), use_cache=True).past_key_values
    with (
        pytest.raises(ModelError, match="the first forward already had a cache"),
        intervene(model.residual, replace(ABLATE, positions=(-1,))),
    ):
        model.model(torch.tensor([[7]]), past_key_values=cache)


def test_affine_ablation_with_a_mean_of_zero_is_ablation(model) -> None:  # type: ignore[no-untyped-def]
    ids = ids_of(model)
    zero = replace(AFFINE, mean=torch.zeros(D_MODEL))
    torch.testing.assert_close(logits_under(model, zero, ids), logits_under(model, ABLATE, ids), atol=1e-5, rtol=1e-5)


def test_a_subspace_of_one_row_is_ablation_and_its_basis_does_not_matter(model) -> None:  # type: ignore[no-untyped-def]
    ids = ids_of(model)
    assert ABLATE.direction is not None
    assert SUBSPACE.direction is not None
    one = Intervention("subspace", ABLATE.direction[None] * -7.0)
    torch.testing.assert_close(logits_under(model, one, ids), logits_under(model, ABLATE, ids), atol=1e-5, rtol=1e-5)
    mixed = Intervention("subspace", torch.tensor([[1.0, 2.0], [-0.5, 1.0]]) @ SUBSPACE.direction)
    torch.testing.assert_close(
        logits_under(model, mixed, ids), logits_under(model, SUBSPACE, ids), atol=1e-4, rtol=1e-4
    )


def test_a_basis_is_orthonormal_and_spans_its_directions() -> None:
    basis, value = SUBSPACE.target()
    assert SUBSPACE.direction is not None
    torch.testing.assert_close(basis @ basis.T, torch.eye(2, dtype=torch.float64))
    rows = SUBSPACE.direction.double()
    torch.testing.assert_close(rows @ basis.T @ basis, rows)
    assert basis.dtype == value.dtype == torch.float64


def test_copies_of_one_direction_span_no_plane() -> None:
    r = direction()
    with pytest.raises(BadInput, match="2 directions span fewer dimensions"):
        Intervention("subspace", torch.stack([r, -3.0 * r + 1e-5 * direction(2)])).target()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Intervention("none", direction()), "takes no direction"),
        (Intervention("ablate"), "needs a direction"),
        (Intervention("ablate", SUBSPACE.direction), "width"),
        (Intervention("subspace", direction()), "width"),
        (Intervention("subspace", torch.ones(2, 16)), "width"),
        (Intervention("affine", direction()), "needs the mean harmless activation"),
        (replace(ABLATE, mean=direction()), "no other intervention has a use for it"),
        (replace(AFFINE, mean=torch.full((D_MODEL,), float("nan"))), "not finite"),
        (replace(ABLATE, coeff=-1.0), "a coefficient has no meaning"),
        (replace(ADD, coeff=float("nan")), "expected a number"),
        (Intervention("add", direction()), "needs layers from 0 to 2, found None"),
        (replace(ABLATE, layers=()), "layers count from 0"),
        (replace(ABLATE, layers=(0, 3)), "needs layers from 0 to 2, found 0, 3"),
        (replace(ABLATE, layers=(-1, 1)), "layers count from 0"),
        (replace(ABLATE, positions=(0,)), "count back from the prompt's end"),
        (replace(ABLATE, positions=()), "count back from the prompt's end"),
    ],
)
def test_what_cannot_be_meant_is_refused(model, asked: Intervention, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadInput, match=message), intervene(model.residual, asked):
        pass


def test_words_say_what_where_and_when() -> None:
    assert Intervention().describe() == "no intervention"
    assert "x - 1.5 r; at the input of layer 1; all tokens" in ADD.describe()
    assert "x + 2 r; at the input of layers 0, 2" in replace(ADD, coeff=2.0, layers=(2, 0)).describe()
    told = replace(SUBSPACE, layers=(4, 5, 6, 9), positions=(-5, -4, -1)).describe()
    assert told.startswith("rank-2 subspace ablation")
    assert "layers 4 to 6, 9" in told
    assert "only prompt positions -5 to -4, -1" in told
    assert "r_hat . (x - mu)" in AFFINE.describe()
    assert spans((3, 1, 2)) == "1 to 3"


# --- the run-time check -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [ABLATE, AFFINE, SUBSPACE, replace(AFFINE, positions=(-1,))],
    ids=lambda a: f"{a.kind}{a.positions or ''}",
)
def test_a_write_that_was_missed_is_noticed_on_leaving(asked: Intervention) -> None:
    broken = chat_model("Llama")
    residual = replace(broken.residual, writes=[w[:1] if i == 1 else w for i, w in enumerate(broken.residual.writes)])
    with pytest.raises(ModelError, match="keeps a share of"), intervene(residual, asked):
        broken.model(ids_of(broken), use_cache=False)


def test_the_check_of_the_hooks_is_the_share_that_the_stream_shows() -> None:
    """In bfloat16, where rounding leaves something to be measured: the same figure from the stream itself."""
    half = chat_model("Llama", torch.bfloat16)
    asked, ids = interventions(torch.bfloat16)["ablate"], ids_of(half)
    with intervene(half.residual, asked) as checks:
        seen = stream("Llama", half.model, lambda: half.model(ids, use_cache=False))
    expected = max(float(away(s[:, -1], asked).max()) for s in seen[1:])
    assert checks.max_projection == pytest.approx(expected, rel=0.02)
    assert expected > 1e-5


def test_a_missing_number_is_never_the_smaller_one() -> None:
    checks = Checks()
    checks.worst = {torch.device("cpu"): torch.tensor(0.1), torch.device("meta", 0): torch.tensor(float("nan"))}
    assert checks.max_projection != checks.max_projection
    with pytest.raises(ModelError, match="NaN or infinite values"):
        checks.verify()


@pytest.mark.parametrize("name", ["Gemma 2", "OPT", "Mixtral", "Gemma 4"])
def test_half_precision_keeps_what_the_tolerance_allows(name: str) -> None:
    half = chat_model(name, torch.bfloat16)
    with intervene(half.residual, interventions(torch.bfloat16)["ablate"]) as checks:
        half.model(ids_of(half), use_cache=False)
    assert checks.max_projection is not None
    assert checks.max_projection < exactness.LIMITS[torch.bfloat16].projection


PARTIAL = [replace(ABLATE, strength=0.3), replace(SUBSPACE, strength=0.7)]


@pytest.mark.parametrize("asked", PARTIAL, ids=lambda a: a.kind)
def test_partial_ablation_keeps_its_share_wherever_it_acts(model, asked) -> None:  # type: ignore[no-untyped-def]
    for where in ({}, {"layers": (1,)}, {"layers": (2, 0)}, {"positions": (-1, -4)}):
        with intervene(model.residual, replace(asked, **where)) as checks:
            model.model(ids_of(model), use_cache=False)
        assert checks.max_projection is not None
        assert 0 <= checks.max_projection < 1e-5
    basis = asked.target().basis.float()
    embedded, kept = (states(model, each)[0] @ basis.T for each in (Intervention(), asked))
    torch.testing.assert_close(kept, (1 - asked.strength) * embedded, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["Llama", "Granite", "Gemma 2"])
def test_partial_ablation_is_checked_in_half_precision_and_behind_a_cache(name: str) -> None:
    made = chat_model(name, torch.bfloat16)
    with intervene(made.residual, PARTIAL[0]):
        first = made.model(ids_of(made), use_cache=True)
        made.model(first.logits[:, -1:].argmax(-1), past_key_values=first.past_key_values, use_cache=True)


def test_a_write_that_partial_ablation_misses_is_noticed(model) -> None:  # type: ignore[no-untyped-def]
    writes = [model.residual.writes[0], model.residual.writes[1][:1], *model.residual.writes[2:]]
    weights = ((1.0, 1.0), (1.0,), *model.residual.weights[2:])
    with (
        pytest.raises(ModelError, match="keeps a share"),
        intervene(replace(model.residual, writes=writes, weights=weights), PARTIAL[0]),
    ):
        model.model(ids_of(model), use_cache=False)


def test_a_strength_is_a_share_of_an_ablation(model) -> None:  # type: ignore[no-untyped-def]
    for wrong in (replace(ABLATE, strength=0.0), replace(ABLATE, strength=1.2), replace(ADD, strength=0.5),
                  replace(AFFINE, strength=0.5), replace(ABLATE, strength=float("nan"))):  # fmt: skip
        with pytest.raises(BadInput, match="strength"):
            wrong.check(model.residual)
    assert "0.3 of it (partial)" in PARTIAL[0].describe()
    assert "partial" not in ABLATE.describe()
