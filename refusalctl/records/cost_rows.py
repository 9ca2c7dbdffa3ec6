"""What a cost panel compares, item by item: losses of documents, drift of prompts, items of lm-eval tasks."""

from __future__ import annotations

from refusalctl.records.rows import Row


class DocumentLoss(Row, frozen=True):
    """-log P of one text or answer in nats, over all its tokens; `bytes` of its UTF-8, whatever the tokenizer does."""

    id: str
    nats: float
    tokens: int
    bytes: int
    cluster: str = ""


class PromptDrift(Row, frozen=True):
    """KL(baseline || intervened) of the next token after one prompt, in nats."""

    prompt_id: str
    kl: float
    cluster: str = ""


class BenchmarkItem(Row, frozen=True):
    """One item of an lm-eval task under one filter, as lm-eval scored it.

    `doc`, `prompt` and `target` are lm-eval's own hashes of what the item holds, of its first request and of its
    answer: what is compared under two conditions must agree in them. No text is kept.
    """

    task: str
    item: str
    filter: str
    doc: str
    prompt: str
    target: str
    metrics: dict[str, float]
