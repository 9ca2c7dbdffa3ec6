"""What a study gives back: one object per kind of artifact, with tensors, tables and lineage.

Every result knows its artifact (`id`, `path`, `about`) and what it was made from (`lineage`). Tensors are
memory-mapped, tables come as rows and, for those who ask, as pandas. A notebook shows them as tables; no text of a
prompt or an answer is ever part of what is shown.
"""

from refusalctl.results.answers import Completions, Labels, Prompts, Sample, Translations
from refusalctl.results.base import RESULTS, Result, Table, result
from refusalctl.results.findings import (
    Benchmark,
    Calibration,
    Comparison,
    Comprehension,
    Controls,
    Correction,
    Cosmic,
    Cost,
    Drift,
    Geometry,
    Losses,
    Openings,
    Panel,
    Report,
    Scores,
    Transfer,
)
from refusalctl.results.tensors import Activations, ControlDirections, Directions, Selection, Subspace, Vectors

__all__ = [
    "RESULTS",
    "Activations",
    "Benchmark",
    "Calibration",
    "Comparison",
    "Completions",
    "Comprehension",
    "ControlDirections",
    "Controls",
    "Correction",
    "Cosmic",
    "Cost",
    "Directions",
    "Drift",
    "Geometry",
    "Labels",
    "Losses",
    "Openings",
    "Panel",
    "Prompts",
    "Report",
    "Result",
    "Sample",
    "Scores",
    "Selection",
    "Subspace",
    "Table",
    "Transfer",
    "Translations",
    "Vectors",
    "result",
]
