"""A selection in words, for the command line."""

from __future__ import annotations

from typing import Any

from refusalctl.steps.selection.scores import chosen_candidate, is_complete, read_scores
from refusalctl.store.store import Artifact

UNSPLIT = "how reliable the direction is cannot be told: it came without the activations that it was made from"


def described(artifact: Artifact) -> list[str]:
    """A choice in words: its scores, how much of it is chance, and what the other criterion would have chosen."""
    table, at = read_scores(artifact), chosen_candidate(artifact)
    steady, reliable = table["stability"], table["reliability"]
    choices = table.get("choices")  # an imported selection has one criterion's
    where = f"position {at['pos']}{_token(table, at['pos'])}, layer {at['layer']}"
    lines = [f"by {table.get('criterion', 'refusal-score')}: {where}"]
    left_out = shortened(table)
    if left_out and choices:
        lines += [f"refusal-score: {choice_line(choices['refusal-score'])}", left_out]
    elif choices:
        lines += [f"{name}: {choice_line(choices[name])}" for name in ("refusal-score", "cosmic")]
    if choices and choices["cosine"] is not None:
        lines.append(f"cosine of the two choices: {choices['cosine']:.2f}")
    share = steady["winners"].get(f"{at['pos']},{at['layer']}")
    if share is not None:
        lines.append(f"wins {share:.0%} of {steady['resamples']} bootstraps of the validation prompts")
    elif steady["resamples"]:
        lines.append(f"is not among the ten most frequent winners of {steady['resamples']} bootstraps")
    elif not left_out:
        lines.append("how steady the choice is cannot be told: there are no scores per prompt to resample")
    if not reliable["splits"]:
        lines.append(UNSPLIT)
    elif reliable["ceiling"] is None:
        lines.append("halves of the train prompts share no direction")
    else:
        lines.append(
            f"split-half cosine {reliable['half']:.2f}, reliability {reliable['full']:.2f}, "
            f"noise ceiling {reliable['ceiling']:.2f} for its cosine to anything"
        )
    return lines


def _token(table: dict[str, Any], pos: int) -> str:
    """The token of the template at a position, where the table says which: a thought's tags are among them."""
    tokens = table.get("suffix_tokens")
    return f" ({tokens[pos]!r})" if tokens and -len(tokens) <= pos < 0 else ""


def shortened(table: dict[str, Any]) -> str:
    """What a search left out, and what cannot be said for it; empty where every candidate was scored."""
    if table.get("search", "full") == "full":
        return ""
    complete = sum(is_complete(row) for row in table["candidates"])
    return (
        f"search {table['search']}: {complete} of {len(table['candidates'])} candidates have all three scores; "
        "how steady the choice is, and what COSMIC would choose, needs the full grid"
    )


def choice_line(row: dict[str, Any] | None) -> str:
    """Where one criterion's choice lies, with its scores."""
    if row is None:
        return "chooses nothing here"
    where = f"position {row['pos']}, layer {row['layer']}"
    if "bypass" in row:
        return f"{where} (bypass {row['bypass']:.2f}, induce {row['induce']:.2f}, KL {row['kl']:.3f})"
    kl = "" if row["kl"] is None else f", KL {row['kl']:.3f}"
    return f"{where} (cosine after ablation {row['comply']:.3f}, after addition {row['refuse']:.3f}{kl})"


def score_rows(artifact: Artifact) -> list[dict[str, object]]:
    """Mean scores of every candidate, None where it was not scored."""
    at = chosen_candidate(artifact)
    place = (at["pos"], at["layer"])
    return [
        {name: row[name] for name in ("pos", "layer", "bypass", "induce", "kl")}
        | {"chosen": (row["pos"], row["layer"]) == place}
        for row in read_scores(artifact)["candidates"]
    ]
