"""A selection in words, for the command line."""

from __future__ import annotations

from refusalctl.records.selection import ChosenByScore, CosmicCandidate, ScoreTable, SelectionScores, SplitHalf
from refusalctl.stats.candidate_choice import CRITERIA
from refusalctl.steps.selection.scores import chosen_candidate, read_choice
from refusalctl.store.store import Artifact

UNSPLIT = "how reliable the direction is cannot be told: it came without the activations that it was made from"


def described(artifact: Artifact) -> list[str]:
    """A choice in words: its scores, how much of it is chance, and what the other criterion would have chosen."""
    table, at = read_choice(artifact), chosen_candidate(artifact)
    lines = [f"by {table.criterion}: position {at.pos}{_token(table, at.pos)}, layer {at.layer}"]
    left_out, choices = shortened(table), table.choices
    if choices is not None:
        by_score = f"refusal-score: {choice_line(choices.refusal_score)}"
        lines += [by_score, left_out] if left_out else [by_score, f"cosmic: {choice_line(choices.cosmic)}"]
        if choices.cosine is not None:
            lines.append(f"cosine of the two choices: {choices.cosine:.2f}")
    return [*lines, *_steady(table, (at.pos, at.layer)), _reliable(table.reliability)]


def _token(table: ScoreTable, pos: int) -> str:
    """The token of the template at a position, where the table says which: a thought's tags are among them."""
    tokens = table.suffix_tokens
    return f" ({tokens[pos]!r})" if tokens and -len(tokens) <= pos < 0 else ""


def _steady(table: SelectionScores, place: tuple[int, int]) -> list[str]:
    """How often the choice wins when the validation prompts are resampled."""
    if table.stability is None:
        return [] if shortened(table) else [f"how steady the choice is cannot be told: {table.unsteady}"]
    share, resamples = table.stability.share(place), table.stability.resamples
    if share is None:
        return [f"is not among the ten most frequent winners of {resamples} bootstraps"]
    return [f"wins {share:.0%} of {resamples} bootstraps of the validation prompts"]


def _reliable(found: SplitHalf | None) -> str:
    if found is None or not found.splits:
        return UNSPLIT
    if found.ceiling is None:
        return "halves of the train prompts share no direction"
    return (
        f"split-half cosine {found.half:.2f}, reliability {found.full:.2f}, "
        f"noise ceiling {found.ceiling:.2f} for its cosine to anything"
    )


def shortened(table: ScoreTable) -> str:
    """What a search left out, and what cannot be said for it; empty where every candidate was scored."""
    if table.search in (None, "full"):
        return ""
    return (
        f"search {table.search}: {len(table.complete)} of {len(table.candidates)} candidates have all three scores; "
        "how steady the choice is, and what COSMIC would choose, needs the full grid"
    )


def choice_line(row: ChosenByScore | CosmicCandidate | None) -> str:
    """Where one criterion's choice lies, with its scores."""
    if row is None:
        return "chooses nothing here"
    where = f"position {row.pos}, layer {row.layer}"
    if isinstance(row, ChosenByScore):
        return f"{where} (bypass {row.bypass:.2f}, induce {row.induce:.2f}, KL {row.kl:.3f})"
    return f"{where} (cosine after ablation {row.comply:.3f}, after addition {row.refuse:.3f}, KL {row.kl:.3f})"


def score_rows(artifact: Artifact) -> list[dict[str, object]]:
    """Mean scores of every candidate, None where it was not scored."""
    at = chosen_candidate(artifact)
    return [
        {name: getattr(row, name) for name in ("pos", "layer", *CRITERIA)} | {"chosen": row.place == (at.pos, at.layer)}
        for row in read_choice(artifact).candidates
    ]
