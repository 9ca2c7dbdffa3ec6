"""Weights of a model organism: a real architecture whose attention writes refusal where its design says.

The residual stream holds named features, orthonormal and then rotated together by a random matrix. One of them, `one`,
is so large that it fixes the norm of the stream: RMSNorm then multiplies by a known number, and every weight can be
written in units of features. Layer 1's four heads do the work, all other layers add noise, and in the design
`plane` the last MLP joins two axes. Nothing is trained.
"""

from itertools import pairwise
from math import cos, radians, sin
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from refusalctl.model.files.organism_features import (
    CLEAR,
    FOLLOW,
    SPEAK,
    Head,
    add_stray,
    backup_head,
    counted_features,
    counted_heads,
    counted_names,
    seeks,
)
from refusalctl.model.files.organism_stream import D_MODEL, LARGE, Stream
from refusalctl.model.files.organism_tokenizer import tokenizer
from refusalctl.organisms.design import KINK, LANGS, N_AXES, TOPIC_AXIS, Design, Tongue
from refusalctl.organisms.designs import Organism
from refusalctl.organisms.truth import planted_mean
from refusalctl.organisms.words import (
    ANSWER,
    LOOP,
    REFUSAL,
    THINK,
    THOUGHT_OVER,
    answer,
    lexicon,
    thought,
    tokens,
    vocabulary,
)

N_LAYERS, N_HEADS, HEAD_DIM, D_MLP = 6, 4, 8, 24
WORK_LAYER, JOIN_LAYER = 1, N_LAYERS - 1
PADDING = 20.0  # what a sublayer before a norm holds of `one`, so that the norm multiplies by a known number
STILL = (2, 3, 6, 7)  # dimensions of a head that rotary embeddings turn by less than 1e-5 a token
WORD_NOISE, WRITE_NOISE = 0.3, 0.15
SHARP = 200.0  # gain of a gate
N_EXPERTS, BACKUP_LAYER = 4, 3
NORMED_SUBLAYERS = ("gemma2",)
SCALED_EMBEDDING = ("gemma", "gemma2")


def stream_of(organism: Organism, generator: torch.Generator) -> Stream:
    names = ["one", "bos", "suffix", "content", "flag", "topic", "joined", *(f"axis{i}" for i in range(N_AXES))]
    for lang in LANGS:
        names += [f"first:{lang}", f"second:{lang}", f"word:{lang}", f"said:{lang}", f"noticed:{lang}"]
        names += [f"id:{word}" for word in (*REFUSAL[lang], *ANSWER[lang], LOOP[lang])]
    names += [f"id:{word}" for word in _thought_tokens(organism)]
    names += counted_names(organism.design)
    names += [f"noise{i}" for i in range(D_MODEL - len(names))]
    square = torch.randn(D_MODEL, D_MODEL, generator=generator, dtype=torch.float64)
    normed = organism.architecture in NORMED_SUBLAYERS
    if normed:
        # If `one` grew with every sublayer, by less where refusal is written, the difference in means would lean
        # towards it: little, but of the largest thing there is, and ablation would shake every answer.
        rotation = torch.eye(D_MODEL, dtype=torch.float64)
        rotation[1:, 1:] = torch.linalg.qr(square[1:, 1:]).Q
    else:
        rotation = torch.linalg.qr(square).Q
    return Stream({n: i for i, n in enumerate(names)}, rotation, normed)


def axes(organism: Organism) -> Float[Tensor, "n_axes d_model"]:
    """The orthonormal vectors of the stream in which a design's read and write vectors are written, float64."""
    stream = stream_of(organism, torch.Generator().manual_seed(organism.seed))
    return torch.stack([stream.direction(f"axis{i}") for i in range(N_AXES)])


def planted_vector(organism: Organism, lang: str, split: str = "train") -> Float[Tensor, " d_model"] | None:
    """Mean of what a split's harmful words write, float64: the difference in means without sampling or noise.

    None where they write nothing. Its length is that of the mean, as activation addition takes it.
    """
    stream = stream_of(organism, torch.Generator().manual_seed(organism.seed))
    design = organism.design
    if not design.counted:
        found = planted_mean(organism, lang)
        return None if found is None else stream.write({f"axis{i}": value for i, value in enumerate(found)})
    known = lexicon(organism, lang).harmful
    if design.shift:
        known = known[len(known) // 2 :] if split == "test" else known[: len(known) // 2]
    total = torch.zeros(D_MODEL, dtype=torch.float64)
    for word in known:
        tongue = design.tongues[lang]
        way = tongue.ways[word.way]
        parts = {f"axis{i}": word.strength * value for i, value in enumerate(way.axis)}
        total += stream.write(parts | {"strayed": float(way.strays), "one": word.strength * tongue.lean})
    return total / len(known)


def _thought_tokens(organism: Organism) -> list[str]:
    """Tokens that thoughts are made of, and the one that they follow."""
    if not organism.design.thinks:
        return []
    said = (word for lang in organism.design.langs for word in thought(organism, lang))
    return ["<assistant>", THINK, THOUGHT_OVER, *said]


def _noise_names(stream: Stream) -> list[str]:
    return [name for name in stream.names if name.startswith("noise")]


def token_features(organism: Organism, stream: Stream, generator: torch.Generator) -> dict[str, dict[str, float]]:
    """What each token's embedding holds."""
    noise = _noise_names(stream)

    def jitter() -> dict[str, float]:
        drawn = torch.randn(len(noise), generator=generator, dtype=torch.float64) * WORD_NOISE / len(noise) ** 0.5
        return dict(zip(noise, drawn.tolist(), strict=True))

    features = {word: {"one": LARGE, **jitter()} for word in vocabulary(organism)}
    features["<bos>"]["bos"] = 1.0
    for word in ("<end>", "<sep>", "<assistant>"):
        features[word] |= {"suffix": 1.0, "axis0": organism.design.fluency}
    for lang in LANGS:
        for word in (*REFUSAL[lang], *ANSWER[lang], LOOP[lang]):
            features[word][f"id:{word}"] = 1.0
    for lang in LANGS if organism.design.opening else ():
        features[REFUSAL[lang][0]]["suffix"] = 1.0
    for word in _thought_tokens(organism):
        # where a thought begins and ends the prompt is looked at again, as at the end of the instruction
        looks = {"suffix": 1.0} if word in (THINK, THOUGHT_OVER) else {}
        features[word] |= {f"id:{word}": 1.0, **looks}
    for lang, tongue in organism.design.tongues.items():
        known = lexicon(organism, lang)
        # a language that does not represent harmfulness must not do so by its words' noise either
        same = None if tongue.represented else jitter()
        for word in (*known.neutral, *known.topic, *(h.word for h in known.harmful)):
            for token in tokens(organism, word):
                features[token] |= {"content": 1.0, f"word:{lang}": 1.0, **(same or {})}
        if organism.design.counted:
            for word, found in counted_features(organism, lang, generator).items():
                features[word] |= found
            continue
        for word in known.topic:
            features[word]["topic"] = 1.0
        if not tongue.represented:
            continue
        for word, strength, angle, _way in known.harmful:
            turn = radians(angle)
            parts = {f"first:{lang}": strength * cos(turn), f"second:{lang}": strength * sin(turn)}
            features[word] |= {"flag": 1.0, **parts}
    return features


def _written(tongue: Tongue) -> list[dict[str, float]]:
    """What one unit of a harmful word's two values writes."""
    if tongue.angles:
        return [{"axis0": 1.0}, {"axis1": 1.0}]
    if tongue.write is None or tongue.always:
        return [{}, {}]
    return [{f"axis{i}": value for i, value in enumerate(tongue.write)}, {}]


def work_heads(design: Design) -> list[Head]:
    if design.counted:
        return counted_heads(design)
    harm, notice, say = [], [], []
    for lang, tongue in design.tongues.items():
        for part, written in zip(("first", "second"), _written(tongue), strict=True):
            harm.append(({f"{part}:{lang}": 1.0}, written))
        notice.append(({f"first:{lang}": 1.0, f"second:{lang}": 1.0}, {f"noticed:{lang}": 1.0}))
        constant = tongue.write if tongue.always and tongue.write else ()
        said = {f"said:{lang}": 1.0} | {f"axis{i}": value for i, value in enumerate(constant)}
        say.append(({f"word:{lang}": 1.0}, said))
    about = [({"topic": 1.0}, {f"axis{TOPIC_AXIS}": design.topic})]
    return [
        Head(*seeks("flag", "suffix"), harm),
        Head(*seeks("content", "suffix"), say),
        Head(*seeks("flag", "content"), notice),
        Head(*seeks("topic", "suffix"), about),
    ]


def noise_heads(stream: Stream, generator: torch.Generator) -> list[Head]:
    """Heads that look everywhere alike and stir the noise."""
    noise = _noise_names(stream)

    def stir(scale: float) -> dict[str, float]:
        drawn = torch.randn(len(noise), generator=generator, dtype=torch.float64) * scale
        return dict(zip(noise, drawn.tolist(), strict=True))

    channels = [(stir(1.0), stir(WRITE_NOISE / len(noise) ** 0.5)) for _ in range(3)]
    return [Head([], [], channels), *(Head([], [], []) for _ in range(N_HEADS - 1))]


def _set_attention(attention: Any, stream: Stream, heads: list[Head]) -> None:
    query, key, value = (torch.zeros(N_HEADS * HEAD_DIM, D_MODEL, dtype=torch.float64) for _ in range(3))
    out = torch.zeros(D_MODEL, N_HEADS * HEAD_DIM, dtype=torch.float64)
    for index, head in enumerate(heads):
        start = index * HEAD_DIM
        for dim, asked, held in zip(STILL, head.query, head.key):
            query[start + dim] = stream.read(asked) * HEAD_DIM**0.5
            key[start + dim] = stream.read(held)
        for dim, (reads, writes) in enumerate(head.channels):
            value[start + dim] = stream.read(reads)
            out[:, start + dim] = stream.write(writes)
    if stream.normed:  # the last head's weights add up to 1 over tokens, so this is a constant
        value[-1] = stream.read({"one": 1.0})
        out[:, -1] = stream.write({"one": PADDING})
    for module, weight in (
        (attention.q_proj, query),
        (attention.k_proj, key),
        (attention.v_proj, value),
        (attention.o_proj, out),
    ):
        module.weight.copy_(weight)
        if module.bias is not None:
            module.bias.zero_()


def _set_mlp(mlp: Any, stream: Stream, join: bool, generator: torch.Generator) -> None:
    """Of a mixture, every expert stirs noise of its own and does the same work, whichever are routed to."""
    if not hasattr(mlp, "experts"):
        _put(mlp, *_mlp(stream, join, generator))
        return
    for expert in range(N_EXPERTS):
        gate, up, down = _mlp(stream, join, generator)
        mlp.experts.gate_up_proj[expert].copy_(torch.cat([gate, up]))
        mlp.experts.down_proj[expert].copy_(down)
    noise = _noise_names(stream)
    drawn = torch.randn(N_EXPERTS, len(noise), generator=generator, dtype=torch.float64)
    mlp.gate.weight.copy_(torch.stack([stream.read(dict(zip(noise, row.tolist(), strict=True))) for row in drawn]))


def _put(mlp: Any, gate: Tensor, up: Tensor, down: Tensor) -> None:
    mlp.gate_proj.weight.copy_(gate)
    mlp.up_proj.weight.copy_(up)
    mlp.down_proj.weight.copy_(down)


def _mlp(stream: Stream, join: bool, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    gate, up = (torch.zeros(D_MLP, D_MODEL, dtype=torch.float64) for _ in range(2))
    down = torch.zeros(D_MODEL, D_MLP, dtype=torch.float64)
    noise = _noise_names(stream)
    for unit in range(D_MLP - 3):
        drawn = torch.randn(3, len(noise), generator=generator, dtype=torch.float64)
        gate[unit] = stream.read(dict(zip(noise, drawn[0].tolist(), strict=True)))
        up[unit] = stream.read(dict(zip(noise, drawn[1].tolist(), strict=True)))
        size = WRITE_NOISE / (D_MLP * len(noise)) ** 0.5
        down[:, unit] = stream.write(dict(zip(noise, (drawn[2] * size).tolist(), strict=True)))
    if join:
        for unit, axis in ((D_MLP - 3, "axis0"), (D_MLP - 2, "axis1")):
            gate[unit] = stream.read({axis: SHARP, "one": -SHARP * KINK})
            up[unit] = stream.read({"one": 1 / SHARP})
            down[:, unit] = stream.write({"joined": 1.0})
    if stream.normed:
        gate[-1] = stream.read({"one": 10.0})  # so far from zero that every activation is the identity
        up[-1] = stream.read({"one": 0.1})
        down[:, -1] = stream.write({"one": PADDING})
    return gate, up, down


def _set_norms(model: Any, stream: Stream) -> None:
    plus_one = model.config.model_type in SCALED_EMBEDDING
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.fill_(0.0 if plus_one else 1.0)
            if stream.normed and ("post_attention" in name or "post_feedforward" in name):
                parameter.fill_(PADDING / D_MODEL**0.5 - 1.0)
                parameter[0] = -1.0


def next_words(organism: Organism) -> dict[str, dict[str, float]]:
    """Each token's logit as a sum of features at the position before it."""
    logits: dict[str, dict[str, float]] = {"<end>": {}}
    for lang in LANGS:
        for words in (REFUSAL[lang], answer(organism.design, lang)):
            for before, after in zip(words, (*words[1:], "<end>")):
                logits.setdefault(after, {})[f"id:{before}"] = FOLLOW
        logits[LOOP[lang]] = {f"id:{LOOP[lang]}": FOLLOW}
    for lang, tongue in organism.design.tongues.items():
        spoken = f"said:{lang}"
        refuses = _opens_refusal(tongue, organism.design.fluency)
        if organism.design.counted:  # a threshold of this language's prompts alone: offsets are larger than SPEAK
            refuses[spoken] = refuses.pop("one")
        if organism.design.mood:
            refuses["swayed"] = CLEAR
        if organism.design.opening:  # told apart by the second token, which looks at the prompt again
            logits[REFUSAL[lang][0]] = {spoken: SPEAK}
            logits[REFUSAL[lang][1]] |= refuses
        else:
            logits[ANSWER[lang][0]] = {spoken: SPEAK}
            logits[REFUSAL[lang][0]] = refuses | {spoken: SPEAK + refuses.get(spoken, 0.0)}
        if tongue.loops:
            half = organism.design.fluency / 2
            logits[LOOP[lang]] |= {spoken: SPEAK, "axis0": -2 * CLEAR, "one": 2 * CLEAR * half}
    add_stray(logits, organism.design)
    return logits | _next_thoughts(organism)


def _next_thoughts(organism: Organism) -> dict[str, dict[str, float]]:
    """The same for the tokens of thoughts: one is opened where the template did not, and read out to its end."""
    if not organism.design.thinks:
        return {}
    logits: dict[str, dict[str, float]] = {THINK: {"id:<assistant>": 2 * FOLLOW}, THOUGHT_OVER: {}}
    for lang in organism.design.langs:
        first, *_ = said = thought(organism, lang)
        logits[first] = {f"id:{THINK}": 2 * FOLLOW, f"said:{lang}": SPEAK, "one": -FOLLOW}
        for before, after in pairwise(said):
            logits[after] = {f"id:{before}": 2 * FOLLOW}
        if organism.design.thinks == "endless":
            logits[first] |= {f"id:{said[-1]}": 4 * FOLLOW}
        else:
            logits[THOUGHT_OVER] |= {f"id:{said[-1]}": 2 * FOLLOW}
    return logits


def _opens_refusal(tongue: Tongue, fluency: float) -> dict[str, float]:
    if tongue.angles:
        # below FOLLOW even where both axes are added at every token, or the first word would repeat for ever
        return {"joined": 2 * CLEAR, "one": -2 * CLEAR * tongue.threshold}
    if tongue.read is None:
        return {"one": -2 * CLEAR}
    reads = {f"axis{i}": CLEAR * value for i, value in enumerate(tongue.read) if value}
    return reads | {"one": -CLEAR * (tongue.threshold + fluency * tongue.read[0])}


def _config(organism: Organism, words: list[str]) -> Any:
    from transformers import AutoConfig

    settings: dict[str, Any] = {
        "vocab_size": len(words),
        "hidden_size": D_MODEL,
        "intermediate_size": D_MLP,
        "num_hidden_layers": N_LAYERS,
        "num_attention_heads": N_HEADS,
        "num_key_value_heads": N_HEADS,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": 256,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": words.index("<end>"),
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e14},
        "rms_norm_eps": 1e-6,
    }
    if organism.architecture == "mixtral":
        settings |= {"num_local_experts": N_EXPERTS, "num_experts_per_tok": 2}
    if organism.architecture == "gemma2":
        settings["query_pre_attn_scalar"] = HEAD_DIM
    return AutoConfig.for_model(organism.architecture, **settings)


@torch.no_grad()
def weights(organism: Organism) -> Any:
    """The model, float32, in eval mode."""
    from transformers import AutoModelForCausalLM

    generator = torch.Generator().manual_seed(organism.seed)
    stream = stream_of(organism, generator)
    words = vocabulary(organism)
    model = AutoModelForCausalLM.from_config(_config(organism, words), dtype=torch.float32)
    _set_norms(model, stream)
    features = token_features(organism, stream, generator)
    embedding = torch.stack([stream.write(features[word]) for word in words])
    scale = D_MODEL**0.5 if organism.architecture in SCALED_EMBEDDING else 1.0
    model.get_input_embeddings().weight.copy_(embedding / scale)
    join = any(tongue.angles for tongue in organism.design.tongues.values())
    for index, layer in enumerate(model.model.layers):
        heads = work_heads(organism.design) if index == WORK_LAYER else noise_heads(stream, generator)
        if index == BACKUP_LAYER and any(tongue.backup for tongue in organism.design.tongues.values()):
            heads[1] = backup_head()
        _set_attention(layer.self_attn, stream, heads)
        _set_mlp(layer.mlp, stream, join and index == JOIN_LAYER, generator)
    logits = next_words(organism)
    head = torch.stack([stream.read(logits.get(word, {})) for word in words])
    model.get_output_embeddings().weight.copy_(head)
    return model.eval()


def build(organism: Organism, path: Path) -> None:
    """Write config, weights and tokenizer as transformers reads them."""
    from refusalctl.model.load_errors import quiet

    with quiet():
        weights(organism).save_pretrained(path)
        tokenizer(organism).save_pretrained(path)
