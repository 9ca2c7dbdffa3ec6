"""From candidate directions to the chosen one: openings, scores, search, controls."""
