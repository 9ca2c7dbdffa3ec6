"""What a score table knows, and what it does not."""

from __future__ import annotations

from refusalctl.records.selection import ScoredCandidate, Stability
from refusalctl.stats.selection_rule import PRESETS, Rule


def test_a_candidate_that_a_full_list_of_winners_lacks_has_no_known_share() -> None:
    full = Stability(1000, {f"-1,{i}": 0.1 for i in range(Stability.LISTED)}, 0.0)
    assert full.share((-1, 3)) == 0.1
    assert full.share((-2, 3)) is None
    assert Stability(1000, {"-1,3": 0.9}, 0.1).share((-2, 3)) == 0.0


def test_the_rule_tells_of_a_row_what_its_scores_tell() -> None:
    rule = Rule.of(PRESETS["arditi"])
    assert rule == PRESETS["arditi"]
    assert rule.accepts(ScoredCandidate(-1, 3, -5.0, 1.0, 0.05, None)) is True
    assert rule.accepts(ScoredCandidate(-1, 3, -5.0, -1.0, 0.05, None)) is False
    assert rule.accepts(ScoredCandidate(-1, 3, -5.0, None, None, None)) is None
    assert rule.accepts(ScoredCandidate(-1, 3, None, None, 0.05, None)) is True  # COSMIC: by KL alone
    assert rule.accepts(ScoredCandidate(-1, 3, None, None, 0.5, None)) is False
    assert rule.accepts(ScoredCandidate(-1, 3, None, None, None, None)) is None
