"""Figures of a report: which there are, what each shows in words, and how it is drawn."""

from __future__ import annotations

DESCRIPTIONS = {
    "compliance": "Dot chart: compliance rate per model and target language, without intervention and with the "
    "reference direction ablated, with 95 % Wilson intervals. The table of all conditions holds every number.",
    "refusal_rates": "Bar chart: refusal rate per target language at baseline, under transferred directions and under "
    "its own direction, with 95 % Wilson intervals. The table of all conditions holds every number.",
    "transfer_matrix": "Heat map: refusal rate after ablation for each source direction and target language.",
    "layer_scores": "Line charts: bypass, induce and KL scores of every candidate by layer, one line per token "
    "position. candidates.csv holds every number.",
    "cost": "Line charts: what each intervention changes beside refusals (KL, loss, tasks, safe prompts refused) by "
    "what it removes, one panel per measure, one line per intervention along its doses. cost.csv holds every number.",
    "layer_cosines": "Line charts: cosine of each language's direction with the reference language's by layer, with "
    "the noise ceiling. geometry.csv and the geometry artifact hold every number.",
    "activation_maps": "Scatter plots: harmful and harmless prompts of each language on its first two principal "
    "components. The table of separability says in full space what they suggest.",
    "projections": "Interval chart: where each language's harmful and harmless prompts lie on the reference direction. "
    "The table of separability holds the medians.",
}
