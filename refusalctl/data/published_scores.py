"""`direction_evaluations*.json` and `direction_metadata*.json` of published runs.

Written by select_direction.py of andyrdt/refusal_direction and mainlp/Multilingual-Refusal: means over prompts, never
the prompts themselves; positions are negative, NaN is written as it is.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from refusalctl.data.published_runs import read_json
from refusalctl.errors import DataError
from refusalctl.records.selection import Candidate, ScoredCandidate

NAMES = ("refusal_score", "steering_score", "kl_div_score")  # bypass, induce, KL


MOST_PLACES = 10_000  # positions or layers: tables have a row for each


class PublishedScores(NamedTuple):
    """Candidates with their mean scores, and the places (position, layer) of those whose scores are no numbers."""

    candidates: list[ScoredCandidate]
    unscored: list[Candidate]


def read_scores(path: Path) -> PublishedScores:
    """Raises `DataError` for rows without position, layer and three scores, and for a place that is named twice."""
    rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path.name} holds no candidates, expected a list of scores by position and layer")
    good: list[ScoredCandidate] = []
    unscored, seen = [], set()
    for number, row in enumerate(rows):
        place = _place(row, "position", f"{path.name} row {number}")
        if place in seen:
            raise DataError(f"{path.name} row {number}: position {place.pos}, layer {place.layer} is there twice")
        seen.add(place)
        values = [row.get(name) for name in NAMES]
        if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
            raise DataError(f"{path.name} row {number}: expected numbers under {', '.join(NAMES)}")
        if all(math.isfinite(v) for v in values):
            bypass, induce, kl = map(float, values)
            good.append(ScoredCandidate(*place, bypass, induce, kl, per_prompt=None))
        else:
            unscored.append(place)
    if not good:
        raise DataError(
            f"{path.name}: the scores of all {len(rows)} candidates are NaN",
            hint="the published selection had nothing to choose from; no direction of it can be believed",
        )
    return PublishedScores(good, unscored)


def read_place(path: Path) -> Candidate:
    """Position and layer that a run chose: one number each, or a list with the best first."""
    row = read_json(path)
    if isinstance(row, dict):
        row = {k: v[0] if isinstance(v, list) and v else v for k, v in row.items()}
    return _place(row, "pos", path.name)


def _place(row: object, key: str, where: str) -> Candidate:
    pos, layer = (row.get(key), row.get("layer")) if isinstance(row, dict) else (None, None)
    if type(pos) is not int or type(layer) is not int:  # True is no place
        raise DataError(f"{where}: expected whole numbers under {key!r} and 'layer'")
    if not (0 <= layer < MOST_PLACES and -MOST_PLACES < pos < MOST_PLACES):
        raise DataError(f"{where}: no model has position {pos} and layer {layer}")
    return Candidate(pos, layer)
