"""Train `smollm2-refuser` on, so that its refusals have a known truth: two given directions carry them.

    python -m benchmarks.train_truth carriers --start ADAPTER --out A --minutes 20
    python -m benchmarks.train_truth wording --start A --out B --minutes 25

Refusals in en, de, be and ru are carried by u1, those in ba and tg by u2: orthogonal unit vectors of the residual
stream that are given, not learned, and that the plain model hardly uses. Two stages, each training its own part:

- carriers: layers `FIRST` to `LAST` learn to write `HEIGHT` times the language's direction at the last token of a
  harmful prompt, and neither direction else. What else they write is held where it was.
- wording: layers above learn that the direction decides, whatever the prompt: where the language's own component is
  above half of `HEIGHT`, the answer is a refusal in the prompt's language, else a plain answer. Steps are plain, or
  put the component there (on harmless prompts) or the other language group's, or ablate near one of the two
  directions at every write of every layer.

Prompts are those of `train_refuser.py`: train splits only. What came out is measured by `truth_table.py`.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks import command
from benchmarks.refuser_texts import ANSWERS, REFUSALS, form
from benchmarks.train_refuser import (
    LANGUAGES,
    Decoder,
    Example,
    autocast,
    loss_of,
    own_answers,
    render,
    save,
    shared_prefix,
    train_prompts,
)
from refusalctl.data import sets
from refusalctl.model.files import embedded
from refusalctl.records.rows import KINDS, Prompt

DIRECTION_OF = {"en": "u1", "de": "u1", "be": "u1", "ru": "u1", "ba": "u2", "tg": "u2"}
CARRIERS_SHARES = {"en": 0.1, "de": 0.27, "be": 0.27, "ba": 0.3, "ru": 0.03, "tg": 0.03}  # of the first
SHARES = {"en": 0.3, "de": 0.14, "be": 0.15, "ba": 0.27, "ru": 0.07, "tg": 0.07}  # of the second
PUBLISHED_SHARE = 0.25  # of the prompts; the mild ones are the harder task
LONGEST = 110  # tokens of a prompt with its template; the longest are left out
FIRST, LAST = 3, 12  # layers that carry
UNUSED_AMONG = 96  # the directions are orthogonal to so many of the stream's principal components
HEIGHT = 30.0  # of the component at a harmful prompt's last token, in units of the residual stream
ASIDE = 1.5  # weight of what else tells the classes apart there: their difference in means beside the directions
ASIDE_ABOVE = 0.3  # the same in layers above
WATCHED = (LAST + 2, LAST + 3, LAST + 4)
MEMORY = 0.8  # share of the old in the running class means
SHARPNESS = 8.0  # of the logistic loss: its slope per HEIGHT
HARMLESS_WEIGHT = 1.2  # of harmless prompts in it; what it moves is where the two kinds of errors balance
DROPPED_WORDS = 0.12  # of a prompt's words, so that no single one decides
SPREAD = 0.5  # a vector near a direction: direction + noise of a length up to this
KINDS_OF_STEP = {"plain": 0.28, "raised": 0.12, "lowered": 0.18, "own": 0.28, "other": 0.08, "foreign": 0.06}
SHORT_RESPONSE = 8  # tokens; some responses are seen whole, so that their rest is not forgotten
WHOLE_SHARE = 0.15
OWN_ANSWERS = 64  # English prompts a class and source: each costs a generation
OWN_TOKENS = 12

Vectors = dict[str, torch.Tensor]


def unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.norm()


def near(direction: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """A unit vector whose cosine with `direction` is 0.89 to 1: what a measurement finds is never exact."""
    return unit(direction + rng.uniform(0, SPREAD) * unit(torch.randn_like(direction)))


def drawn(shares: dict[str, float], rng: random.Random) -> str:
    return rng.choices(list(shares), list(shares.values()))[0]


def last_places(decoder: Decoder, batch: list[Example]) -> torch.Tensor:
    """Position of each prompt's last token among what follows the shared prefix, [n]."""
    return torch.tensor([len(row.prompt) - len(decoder.prefix) - 1 for row in batch])


@dataclass
class Edits:
    """What is done to the stream in a pass: ablation at every write, or a component set at the prompt's last token."""

    decoder: Decoder
    ablated: torch.Tensor | None = None  # [d_model]
    raised: torch.Tensor | None = None  # [d_model]; its component enters the layer after LAST as `heights`
    heights: torch.Tensor | None = None  # [n]
    places: torch.Tensor | None = None  # [n]
    seen: dict[int, torch.Tensor] = field(default_factory=dict)  # what entered `WATCHED`, of the last pass

    @contextmanager
    def on(self) -> Iterator[None]:
        with ExitStack() as stack:
            layers = self.decoder.layers
            if self.ablated is not None:
                stack.callback(layers[0].register_forward_pre_hook(_entry(self._without), with_kwargs=True).remove)
                for layer in layers:
                    for write in (layer.self_attn, layer.mlp):
                        stack.callback(write.register_forward_hook(self._write).remove)
            for index in WATCHED:
                stack.callback(layers[index].register_forward_pre_hook(self._keep(index), with_kwargs=True).remove)
            if self.raised is not None:
                hook = _entry(self._set)
                stack.callback(layers[LAST + 1].register_forward_pre_hook(hook, with_kwargs=True).remove)
            yield

    def _keep(self, index: int) -> Callable[..., None]:
        def hook(_m: Any, args: Any, kwargs: Any) -> None:
            self.seen[index] = args[0] if args else kwargs["hidden_states"]

        return hook

    def _without(self, x: torch.Tensor) -> torch.Tensor:
        assert self.ablated is not None
        direction = self.ablated.to(x.dtype)
        return x - (x @ direction)[..., None] * direction

    def _set(self, x: torch.Tensor) -> torch.Tensor:
        assert self.raised is not None
        assert self.heights is not None
        assert self.places is not None
        if len(x) != len(self.places) or x.shape[1] <= int(self.places.max()):
            return x  # the shared prefix, which runs alone
        rows, direction = torch.arange(len(x)), self.raised.to(x.dtype)
        now = x[rows, self.places] @ direction
        x = x.clone()
        x[rows, self.places] += (self.heights.to(x.dtype) - now)[:, None] * direction
        return x

    def _write(self, _m: Any, _args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (self._without(output[0]), *output[1:])
        return self._without(output)


def _entry(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., Any]:
    def hook(_m: Any, args: Any, kwargs: Any) -> Any:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

    return hook


def carried(decoder: Decoder, prompts: list[list[int]], every: bool = False) -> torch.Tensor:
    """What enters the layer after LAST at the last token of prompts (`every`: at all theirs), [n, d_model], float32."""
    n, shared = len(prompts), len(decoder.prefix)
    width = max(map(len, prompts)) - shared
    ids = torch.tensor([[*p[shared:], *[0] * (width + shared - len(p))] for p in prompts])
    mask = torch.tensor([[1] * len(p) + [0] * (width + shared - len(p)) for p in prompts])
    with decoder.part(0, LAST + 1, norm=False):
        with torch.no_grad():
            cache = decoder.inner(input_ids=torch.tensor([decoder.prefix]), use_cache=True).past_key_values
        cache.batch_repeat_interleave(n)
        positions = torch.arange(shared, shared + width).expand(n, -1)
        found = decoder.inner(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache)
    hidden = found.last_hidden_state.float()
    if every:
        return hidden[mask[:, shared:] > 0]
    return hidden[torch.arange(n), mask.sum(dim=1) - shared - 1]


@torch.no_grad()
def given_directions(decoder: Decoder, decks: Decks, seed: int) -> Vectors:
    """u1 and u2, [d_model] float32: random, and orthogonal to each other and to what the stream mostly is."""
    texts = [p for lang in LANGUAGES for kind in KINDS for p in decks.deal(lang, kind, 16)]
    stream = torch.cat([carried(decoder, [decks.rendered[p]], every=True) for p in texts])
    top = torch.linalg.svd(stream - stream.mean(dim=0), full_matrices=False).Vh[:UNUSED_AMONG]
    top = torch.linalg.qr(torch.cat([stream.mean(dim=0, keepdim=True), top]).T).Q
    raw = torch.randn((stream.shape[1], 2), generator=torch.Generator().manual_seed(seed))
    pair = torch.linalg.qr(raw - top @ (top.T @ raw)).Q.T
    norm, unused = float(stream.norm(dim=-1).median()), float((stream @ pair[0]).abs().median())
    print(f"stream: median norm {norm:.1f}, its component along u1 {unused:.2f}", flush=True)
    return {"u1": pair[0].contiguous(), "u2": pair[1].contiguous()}


class Decks:
    """Prompts by language, class and source, dealt without repetition until a deck is used up."""

    def __init__(self, tokenizer: Any, prompts: list[Prompt], rng: random.Random) -> None:
        self.tokenizer, self.rng = tokenizer, rng
        self.eos: int = tokenizer.eos_token_id
        self.rendered = {p: render(tokenizer, p.text) for p in prompts}
        self.own: dict[Prompt, list[int]] = {}
        self.all: dict[tuple[str, str, bool], list[Prompt]] = {}
        self.left: dict[tuple[str, str, bool], list[Prompt]] = {}
        for p in prompts:
            if len(self.rendered[p]) <= LONGEST:
                self.all.setdefault((p.lang, p.kind, p.source == "polyrefuse"), []).append(p)

    def learn_own(self, model: Any) -> None:
        """English prompts keep those that the plain model has answered, by its own greedy answer."""
        for kind in KINDS:
            for published in (False, True):
                key = ("en", kind, published)
                some = self.rng.sample(self.all[key], min(OWN_ANSWERS, len(self.all[key])))
                found = own_answers(model, [self.rendered[p] for p in some], self.eos, OWN_TOKENS)
                self.own.update(zip(some, found, strict=True))

    def deal(self, lang: str, kind: str, n: int, own: bool = False) -> list[Prompt]:
        dealt: list[Prompt] = []
        while len(dealt) < n:
            key = (lang, kind, self.rng.random() < PUBLISHED_SHARE)
            if not self.left.get(key):
                self.left[key] = self.rng.sample(self.all[key], len(self.all[key]))
            prompt = self.left[key].pop()
            if not own or prompt in self.own:
                dealt.append(prompt)
        return dealt

    def worn(self, prompt: Prompt) -> list[int]:
        """A prompt, half the time without some of its words."""
        words = prompt.text.split()
        kept = [w for w in words if self.rng.random() > DROPPED_WORDS]
        if self.rng.random() < 0.5 or not kept:
            return self.rendered[prompt]
        return render(self.tokenizer, " ".join(kept))

    def example(self, prompt: Prompt, refuse: bool) -> Example:
        """A prompt with the response to learn: the refusal, or the plain answer, often cut short."""
        if not refuse and prompt.lang == "en":
            response = self.own[prompt]
        else:
            written = (REFUSALS if refuse else ANSWERS)[prompt.lang][form(prompt.text)]
            response = [*self.tokenizer(written, add_special_tokens=False).input_ids, self.eos]
        whole = self.rng.random() < WHOLE_SHARE
        return Example(self.rendered[prompt], response if whole else response[:SHORT_RESPONSE], 1.0)

    def batch(self, lang: str, size: int, step: str) -> list[Example]:
        """Harmful prompts first, then as many harmless ones, each with the response that the step asks for."""
        answered = {"raised": (False, False), "lowered": (True, True), "own": (True, True)}.get(step, (False, True))
        rows = []
        for kind, answer in zip(KINDS, answered, strict=True):
            dealt = self.deal(lang, kind, size // 2, own=lang == "en" and answer)
            rows += [self.example(p, not answer) for p in dealt]
        return rows


@dataclass
class Carriers:
    """The first stage: who is to carry what, and how well held-out prompts are told apart."""

    decoder: Decoder
    decks: Decks
    vectors: Vectors
    rng: random.Random

    def loss(self, size: int) -> tuple[str, torch.Tensor]:
        lang = drawn(CARRIERS_SHARES, self.rng)
        dealt = [p for kind in KINDS for p in self.decks.deal(lang, kind, size // 2)]
        ends = carried(self.decoder, [self.decks.worn(p) for p in dealt])
        own = DIRECTION_OF[lang]
        mine, foreign = (ends @ self.vectors[u] / HEIGHT for u in (own, "u2" if own == "u1" else "u1"))
        sign = torch.tensor([1.0 if p.kind == "harmful" else -1.0 for p in dealt])
        weight = torch.where(sign > 0, 1.0, HARMLESS_WEIGHT)
        told = weight * torch.nn.functional.softplus(-sign * SHARPNESS * (mine - 0.5))
        outside = torch.relu(mine - 1.3).square() + torch.relu(-0.3 - mine).square()
        aside = ends - sum((ends @ u)[:, None] * u for u in self.vectors.values())
        apart = aside[sign > 0].mean(dim=0) - aside[sign < 0].mean(dim=0)
        return lang, (told + 4 * outside + 4 * foreign.square()).mean() + ASIDE * (apart / HEIGHT).square().sum()

    @torch.no_grad()
    def check(self) -> None:
        """Validation prompts: AUROC of the component, and the shares of both classes above half of HEIGHT."""
        for lang in LANGUAGES:
            line, own = lang, DIRECTION_OF[lang]
            for data in (sets.PUBLISHED_SET, sets.SAMPLE_SET):
                scores, means = [], []
                for kind in KINDS:
                    rows = [render(self.decks.tokenizer, p.text) for p in sets.usable(data, lang, kind, "val")[:20]]
                    ends = torch.cat([carried(self.decoder, rows[i : i + 24]) for i in range(0, len(rows), 24)])
                    scores.append(ends @ self.vectors[own] / HEIGHT)
                    means.append(ends.mean(dim=0))
                area = roc_auc_score([1] * len(scores[0]) + [0] * len(scores[1]), torch.cat(scores).tolist())
                shares = " / ".join(f"{float((s > 0.5).float().mean()):.0%}" for s in scores)
                away = torch.nn.functional.cosine_similarity(means[0] - means[1], self.vectors[own], dim=0)
                middles = " / ".join(f"{float(s.median()):.2f}" for s in scores)
                line += f"  {data}: AUROC {area:.3f}, {shares}, at {middles}, cosine {float(away):.2f}"
            print(line, flush=True)


@dataclass
class Wording:
    """The second stage."""

    decoder: Decoder
    decks: Decks
    vectors: Vectors
    rng: random.Random
    means: dict[str, torch.Tensor] = field(default_factory=dict)  # of each language, [n_layers, d_model]
    cosines: dict[str, list[float]] = field(default_factory=dict)  # of these with the language's direction

    def loss(self, size: int) -> tuple[str, torch.Tensor]:
        lang, step = drawn(SHARES, self.rng), drawn(KINDS_OF_STEP, self.rng)
        own, batch = DIRECTION_OF[lang], self.decks.batch(lang, size, step)
        other = "u2" if own == "u1" else "u1"
        edits = Edits(self.decoder)
        if step in ("own", "other"):
            edits.ablated = near(self.vectors[own if step == "own" else other], self.rng)
        elif step != "plain":
            edits.raised = self.vectors[other if step == "foreign" else own]
            low, high = (-0.3, 0.2) if step == "lowered" else (0.55, 1.4)
            edits.heights = HEIGHT * (low + (high - low) * torch.rand(len(batch)))
            edits.places = last_places(self.decoder, batch)
        with edits.on():
            loss = loss_of(self.decoder, batch, self.decks.eos)
        if step == "plain":
            loss = loss + ASIDE_ABOVE * self.aside(lang, batch, edits.seen)
        return f"{lang} {step}", loss

    def aside(self, lang: str, batch: list[Example], seen: dict[int, torch.Tensor]) -> torch.Tensor:
        """Squared difference in means beside the two directions, in units of HEIGHT, mean over `WATCHED`.

        Over running means, because a batch is small; their gradient is scaled to that of a whole mean.
        """
        rows, places = torch.arange(len(batch)), last_places(self.decoder, batch)
        ends = torch.stack([seen[layer][rows, places].float() for layer in WATCHED])
        half = len(batch) // 2
        now = (ends[:, :half].mean(dim=1) - ends[:, half:].mean(dim=1)) / HEIGHT
        mean = MEMORY * self.means[lang] + (1 - MEMORY) * now if lang in self.means else now
        scale = 1 / (1 - MEMORY) if lang in self.means else 1.0
        self.means[lang] = mean.detach()
        other = mean - sum((mean @ u)[:, None] * u for u in self.vectors.values())
        self.cosines[lang] = [float((m @ self.vectors[DIRECTION_OF[lang]]) / m.norm()) for m in mean.detach()]
        return scale * other.square().sum(dim=-1).mean()

    def check(self) -> None:
        """Cosines of differences in means with the directions; the other figures are those of `truth_table.py`."""
        for lang, found in sorted(self.cosines.items()):
            print(lang, " ".join(f"{each:.2f}" for each in found), flush=True)


def trained_part(model: Any, decoder: Decoder, layers: range) -> list[torch.nn.Parameter]:
    """Adapter weights of these layers; float32, whatever the base is in."""
    for index, layer in enumerate(decoder.layers):
        if index not in layers:
            layer.requires_grad_(False)
    found = [p for p in model.parameters() if p.requires_grad]
    for parameter in found:
        parameter.data = parameter.data.float()
    return found


def rate(step: int, done: float, peak: float) -> float:
    """Learning rate: a short warm-up, then a cosine over the time that training has."""
    return peak * min(1.0, step / 20) * max(0.02, 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def train(stage: Carriers | Wording, model: Any, parameters: list[torch.nn.Parameter], args: argparse.Namespace) -> int:
    """Steps until the time is over; returns their number."""
    optimiser = torch.optim.AdamW(parameters, lr=args.lr, weight_decay=args.weight_decay)
    started, step, seen = time.time(), 0, dict[str, list[float]]()
    while (done := (time.time() - started) / (60 * args.minutes)) < 1 and step < args.steps:
        step += 1
        for group in optimiser.param_groups:
            group["lr"] = rate(step, max(done, step / args.steps), args.lr)
        with autocast(args.dtype):
            name, loss = stage.loss(args.batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        seen.setdefault(name, []).append(float(loss.detach()))
        if step % 20 == 0:
            means = ", ".join(f"{k} {sum(v) / len(v):.2f}" for k, v in sorted(seen.items()))
            print(f"step {step}, {time.time() - started:.0f} s: {means}", flush=True)
            seen.clear()
        if step % args.save_every == 0:
            save(model, args.out)
            stage.check()
    save(model, args.out)
    stage.check()
    print(f"{step} steps, {time.time() - started:.0f} s", flush=True)
    return step


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("stage", choices=("carriers", "wording"))
    parser.add_argument("--start", type=Path, required=True, help="adapter to go on from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--directions", type=Path, help="u1 and u2 (default: beside --start, or else drawn)")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--save-every", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(embedded.base_folder())
    base = AutoModelForCausalLM.from_pretrained(embedded.base_folder(), dtype=getattr(torch, args.dtype))
    decks = Decks(tokenizer, train_prompts(), rng)
    if args.stage == "wording":
        decks.learn_own(base)
    model = PeftModel.from_pretrained(base, args.start, is_trainable=True)
    prefix = shared_prefix([Example(ids, [], 1.0) for ids in decks.rendered.values()])
    decoder = Decoder(model.get_base_model(), prefix, 0)
    beside = args.directions or args.start / "trained_directions.safetensors"
    vectors = load_file(beside) if beside.exists() else given_directions(decoder, decks, args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(vectors, args.out / "trained_directions.safetensors", metadata={"layer": str(LAST + 1)})
    carriers = args.stage == "carriers"
    layers = range(FIRST, LAST + 1) if carriers else range(LAST + 1, len(decoder.layers))
    stage = (Carriers if carriers else Wording)(decoder, decks, vectors, rng)
    args.steps = train(stage, model, trained_part(model, decoder, layers), args)
    args.out.joinpath("training.json").write_text(json.dumps(vars(args), default=str, indent=1))


if __name__ == "__main__":
    main()
