"""What the designs whose truth is counted add to an organism's weights: features of tokens, heads, and next words.

A harmful word's embedding holds what it writes, `carry0` to `carry3` for the axes, the same features in every language,
so that one head serves any mixture of ways.
"""

from dataclasses import dataclass

import torch

from refusalctl.organisms.design import N_AXES, TOPIC_AXIS, Design
from refusalctl.organisms.designs import Organism
from refusalctl.organisms.words import lexicon, stray, tokens

FOCUS, SINK = 30.0, 15.0  # attention logits of what a head looks for, and of <bos> where there is none of it
SPEAK, CLEAR, FOLLOW = 12.0, 10.0, 25.0  # logits: per language, per unit of strength, next word
STRAY, STRAYS_ABOVE = 8.0, 0.625  # a stray answer stands 3 above one that complies, and below any clear refusal


@dataclass
class Head:
    """Queries and keys by feature (logit units), and channels: what each value reads and what it writes."""

    query: list[dict[str, float]]
    key: list[dict[str, float]]
    channels: list[tuple[dict[str, float], dict[str, float]]]


def seeks(feature: str, by: str) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Tokens with `by` look for `feature`, and at <bos> where there is none; all others look at <bos>."""
    return [{by: FOCUS}, {"one": SINK}], [{feature: 1.0}, {"bos": 1.0}]


def counted_names(design: Design) -> list[str]:
    """Features that only these designs have."""
    if not design.counted:
        return []
    found = [*(f"carry{i}" for i in range(N_AXES)), "leans", "spare", "strays", "strayed", "mood", "swayed"]
    return found + list(dict.fromkeys(f"id:{word}" for lang in design.langs for word in stray(design, lang)))


def counted_features(organism: Organism, lang: str, generator: torch.Generator) -> dict[str, dict[str, float]]:
    """What the tokens of a language hold beside what all of them do."""
    design, tongue, known = organism.design, organism.design.tongues[lang], lexicon(organism, lang)
    features: dict[str, dict[str, float]] = {}
    for word in known.neutral if design.mood else ():
        drawn = torch.randn((), generator=generator, dtype=torch.float64)
        features[tokens(organism, word)[0]] = {"mood": float(drawn) * design.mood}
    for word, strength, _angle, index in known.harmful:
        way = tongue.ways[index]
        parts = {f"carry{i}": strength * value for i, value in enumerate(way.axis) if value}
        parts |= {"flag": 1.0, "leans": strength * tongue.lean, "strays": float(way.strays)}
        parts |= {f"first:{lang}": strength} if tongue.represented else {}
        parts |= {"spare": strength} if tongue.backup else {}
        features[tokens(organism, word)[0]] = parts
    for word in stray(design, lang):
        features[word] = {f"id:{word}": 1.0}
    return features


def counted_heads(design: Design) -> list[Head]:
    """Of the layer that does the work, in the order of the other designs: harm, language, notice, topic."""
    harm: list[tuple[dict[str, float], dict[str, float]]] = [
        ({f"carry{i}": 1.0}, {f"axis{i}": 1.0}) for i in range(N_AXES) if i != TOPIC_AXIS
    ]
    harm += [({"leans": 1.0}, {"one": 1.0}), ({"strays": 1.0}, {"strayed": 1.0})]
    say = [
        ({f"word:{lang}": 1.0}, {f"said:{lang}": 1.0, "axis0": tongue.offset})
        for lang, tongue in design.tongues.items()
    ]
    say += [({"mood": 1.0}, {"swayed": 1.0})]
    notice = [({f"first:{lang}": 1.0}, {f"noticed:{lang}": 1.0}) for lang in design.langs]
    return [
        Head(*seeks("flag", "suffix"), harm),
        Head(*seeks("content", "suffix"), say),
        Head(*seeks("flag", "content"), notice),
        Head([], [], []),
    ]


def backup_head() -> Head:
    """Looks for the harmful word where axis 0 holds none of it, and writes its strength on axis 1."""
    (looks, sinks), key = seeks("flag", "suffix")
    return Head([looks | {"axis0": -FOCUS}, sinks], key, [({"spare": 1.0}, {"axis1": 1.0})])


def add_stray(logits: dict[str, dict[str, float]], design: Design) -> None:
    """Let what strays be said where a prompt strays and is not refused."""
    for lang in design.langs:
        words = stray(design, lang)
        for before, after in zip(words, (*words[1:], "<end>")):
            logits.setdefault(after, {})[f"id:{before}"] = FOLLOW
        if words:
            opens = logits.setdefault(words[0], {})
            opens |= {f"said:{lang}": SPEAK, "strayed": STRAY, "one": -STRAY * STRAYS_ABOVE}
