"""Refusal classifiers over an encoder: Minos-v1 and two multilingual ones.

- `minos` (NousResearch/Minos-v1, ModernBERT-large, Apache-2.0): `<|user|>` and `<|assistant|>` on lines of their own
  (model card). Its card names no language; its encoder is English.
- `e5-refusal` (agentlans/multilingual-e5-small-refusal-classifier, MIT): the same marks without line breaks, 512 tokens
  (model card). Lists ru, kk and uk, and none of ba, be, tg.
- `mmbert-refusal` (natong19/refusal_classifier, mmBERT-base, Apache-2.0): the response alone. Its card says
  what it finds (refusals, but also moralising and disclaimers) and that 1 is refusal; the input format was inferred
  from others' use, so it is marked unverified.
"""

from __future__ import annotations

from refusalctl.model.judges.encoding import fill
from refusalctl.model.judges.protocol import Declaration

E5_LANGUAGES = (
    "ar", "bn", "bo", "cs", "de", "en", "es", "fa", "fil", "fr", "gu", "he", "hi", "id", "it", "ja", "kk", "km", "ko",
    "mn", "mr", "ms", "my", "nl", "pl", "pt", "ru", "ta", "te", "th", "tr", "ug", "uk", "ur", "vi", "yue", "zh",
)  # fmt: skip

MINOS = Declaration(
    name="minos",
    languages=("en",),
    licence="Apache-2.0",
    source="model card of NousResearch/Minos-v1",
    model="NousResearch/Minos-v1",
    size="0.4B",
)
E5 = Declaration(
    name="e5-refusal",
    languages=E5_LANGUAGES,
    licence="MIT",
    source="model card of agentlans/multilingual-e5-small-refusal-classifier",
    model="agentlans/multilingual-e5-small-refusal-classifier",
    size="0.1B",
)
MMBERT = Declaration(
    name="mmbert-refusal",
    languages=None,
    licence="Apache-2.0",
    source="model card of natong19/refusal_classifier",
    model="natong19/refusal_classifier",
    size="0.3B",
    needs_prompt=False,
    verified=False,
)
RENDERS = {
    "minos": fill("<|user|>\n{prompt}\n<|assistant|>\n{response}"),
    "e5-refusal": fill("<|user|>{prompt}<|assistant|>{response}"),
    "mmbert-refusal": fill("{response}"),
}
