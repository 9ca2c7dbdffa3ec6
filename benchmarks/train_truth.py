"""Train `smollm2-refuser` on, so that its refusals have a known truth: two given directions carry them.

    python -m benchmarks.train_truth --start ADAPTER --out FOLDER --minutes 30

Refusals in en, de, be and ru are to be carried by u1, those in ba and tg by u2: unit vectors of the residual stream
that are given, not learned (u1: the English difference in means of the adapter that training goes on from; u2: the
Bashkir one, made orthogonal to u1). Each step takes prompts of one language, half of them harmful, and is of one kind:

- plain: harmful prompts are refused, harmless ones answered, and the language's difference in means is drawn to its
  direction (one minus their cosine, mean over `DRAWN_LAYERS`);
- own: a vector near the language's direction is ablated at every write: everything is answered;
- other: a vector near the other direction is ablated at every write: refused and answered as in a plain step.

Prompts are those of `train_refuser.py`: train splits only. What came out is measured by `truth_table.py`.
"""

from __future__ import annotations

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
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks import command
from benchmarks.refuser_texts import ANSWERS, REFUSALS, form
from benchmarks.train_refuser import (
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
from refusalctl.model.files import embedded
from refusalctl.records.rows import Prompt

DIRECTION_OF = {"en": "u1", "de": "u1", "be": "u1", "ru": "u1", "ba": "u2", "tg": "u2"}
SHARES = {"en": 0.16, "de": 0.24, "be": 0.27, "ba": 0.27, "ru": 0.03, "tg": 0.03}  # of the steps
KINDS_OF_STEP = {"plain": 0.5, "own": 0.25, "other": 0.25}
PUBLISHED_SHARE = 0.2  # of the prompts of a step; the mild ones are the harder task
LONGEST = 110  # tokens of a prompt with its template; the longest are left out
FROZEN_BELOW = 8
DIRECTION_LAYER = 21  # whose resid_pre the given directions were read from
DRAWN_LAYERS = tuple(range(14, 24))
DRAW_WEIGHT = 1.0
MEMORY = 0.8  # share of the old in the running class means
SPREAD = 0.5  # a vector near a direction: direction + noise of a length up to this
SHORT_RESPONSE = 8  # tokens; some responses are seen whole, so that their rest is not forgotten
WHOLE_SHARE = 0.15
OWN_ANSWERS = 48  # English prompts a class and source: each costs a generation
OWN_TOKENS = 10

Vectors = dict[str, torch.Tensor]


@dataclass
class Hooks:
    """Ablation at every write, differentiable, and the residual stream of the last pass."""

    decoder: Decoder
    layers: tuple[int, ...] = DRAWN_LAYERS
    seen: dict[int, torch.Tensor] = field(default_factory=dict)

    @contextmanager
    def on(self, direction: torch.Tensor | None) -> Iterator[None]:
        """Ablate `direction` [d_model] in the embedding and in what every layer writes; None ablates nothing."""
        with ExitStack() as stack:
            for index, layer in enumerate(self.decoder.layers):
                if direction is not None:
                    if index == 0:
                        stack.callback(layer.register_forward_pre_hook(_entry(direction), with_kwargs=True).remove)
                    for write in (layer.self_attn, layer.mlp):
                        stack.callback(write.register_forward_hook(_write(direction)).remove)
                if index in self.layers:
                    stack.callback(layer.register_forward_pre_hook(self._keep(index), with_kwargs=True).remove)
            yield

    def _keep(self, index: int) -> Callable[..., None]:
        def hook(_m: Any, args: Any, kwargs: Any) -> None:
            self.seen[index] = args[0] if args else kwargs["hidden_states"]

        return hook

    def ends(self, batch: list[Example]) -> torch.Tensor:
        """The stream at each prompt's last token, [n_layers, n, d_model], float32, from the last pass."""
        places = torch.tensor([len(row.prompt) - len(self.decoder.prefix) - 1 for row in batch])
        rows = torch.arange(len(batch))
        return torch.stack([self.seen[layer][rows, places].float() for layer in self.layers])


def _without(x: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    direction = direction.to(x.dtype)
    return x - (x @ direction)[..., None] * direction


def _entry(direction: torch.Tensor) -> Callable[..., Any]:
    def hook(_m: Any, args: Any, kwargs: Any) -> Any:
        if args:
            return (_without(args[0], direction), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": _without(kwargs["hidden_states"], direction)}

    return hook


def _write(direction: torch.Tensor) -> Callable[..., Any]:
    def hook(_m: Any, _args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (_without(output[0], direction), *output[1:])
        return _without(output, direction)

    return hook


def unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.norm()


@torch.no_grad()
def given_directions(decoder: Decoder, decks: Decks, n: int = 36) -> Vectors:
    """u1 and u2, [d_model] float32, orthogonal unit vectors, from train prompts of the model as it stands."""
    hooks, found = Hooks(decoder, (DIRECTION_LAYER,)), {}
    for lang in ("en", "ba"):
        means = []
        for kind in ("harmful", "harmless"):
            ends = []
            for _ in range(n // 12):
                batch = [decks.example(p, refuse=True) for p in decks.deal(lang, kind, 12)]
                with hooks.on(None), autocast(decks.dtype):
                    loss_of(decoder, batch, decks.eos)
                ends.append(hooks.ends(batch)[0])
            means.append(torch.cat(ends).mean(dim=0))
        found[lang] = means[0] - means[1]
    u1 = unit(found["en"])
    print(f"cosine of the two before: {float(u1 @ unit(found['ba'])):.3f}", flush=True)
    u2 = unit(found["ba"] - (found["ba"] @ u1) * u1)
    return {"u1": u1, "u2": unit(u2 - (u2 @ u1) * u1)}


class Decks:
    """Prompts by language, class and source, dealt without repetition until a deck is used up."""

    def __init__(self, tokenizer: Any, prompts: list[Prompt], rng: random.Random, dtype: str) -> None:
        self.tokenizer, self.rng, self.dtype = tokenizer, rng, dtype
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
        for kind in ("harmful", "harmless"):
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

    def example(self, prompt: Prompt, refuse: bool) -> Example:
        """A prompt with the response to learn: the refusal, or the plain answer, often cut short."""
        texts = REFUSALS if refuse else ANSWERS
        if not refuse and prompt.lang == "en":
            response = self.own[prompt]
        else:
            written = texts[prompt.lang][form(prompt.text)]
            response = [*self.tokenizer(written, add_special_tokens=False).input_ids, self.eos]
        whole = self.rng.random() < WHOLE_SHARE
        return Example(self.rendered[prompt], response if whole else response[:SHORT_RESPONSE], 1.0)

    def batch(self, lang: str, size: int, step: str) -> list[Example]:
        """Harmful prompts first, then as many harmless ones."""
        english = lang == "en"
        harmful = self.deal(lang, "harmful", size // 2, own=english and step == "own")
        harmless = self.deal(lang, "harmless", size // 2, own=english)
        return [self.example(p, step != "own") for p in harmful] + [self.example(p, False) for p in harmless]


class Draw:
    """Draws each language's difference in means to its direction, over running class means."""

    def __init__(self) -> None:
        self.means: dict[str, torch.Tensor] = {}
        self.cosine: dict[str, float] = {}

    def loss(self, lang: str, ends: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        """One minus the cosine, mean over layers; `ends` [n_layers, n, d_model], harmful ones first.

        The running mean keeps the noise of a dozen prompts out; its gradient is scaled to that of a whole mean.
        """
        half = ends.shape[1] // 2
        now = ends[:, :half].mean(dim=1) - ends[:, half:].mean(dim=1)
        mean = MEMORY * self.means[lang] + (1 - MEMORY) * now if lang in self.means else now
        scale = 1 / (1 - MEMORY) if lang in self.means else 1.0
        self.means[lang] = mean.detach()
        cosines = torch.nn.functional.cosine_similarity(mean, direction.expand_as(mean), dim=-1)
        self.cosine[lang] = float(cosines[self.index].detach())
        return scale * (1 - cosines).mean()

    @property
    def index(self) -> int:
        return DRAWN_LAYERS.index(DIRECTION_LAYER)


def near(direction: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """A unit vector whose cosine with `direction` is 0.89 to 1: what a measurement finds is never exact."""
    noise = torch.randn_like(direction)
    return unit(direction + rng.uniform(0, SPREAD) * unit(noise))


def drawn(shares: dict[str, float], rng: random.Random) -> str:
    return rng.choices(list(shares), list(shares.values()))[0]


@dataclass
class Trainer:
    """The model, what it learns from, and how far it is."""

    decoder: Decoder
    decks: Decks
    vectors: Vectors
    rng: random.Random
    draw: Draw = field(default_factory=Draw)

    def loss(self, size: int) -> tuple[str, torch.Tensor]:
        """The loss of one step, and its kind and language."""
        lang, step = drawn(SHARES, self.rng), drawn(KINDS_OF_STEP, self.rng)
        own, batch = DIRECTION_OF[lang], self.decks.batch(lang, size, step)
        other = "u2" if own == "u1" else "u1"
        ablated = {"plain": None, "own": own, "other": other}[step]
        hooks = Hooks(self.decoder)
        with hooks.on(None if ablated is None else near(self.vectors[ablated], self.rng)), autocast(self.decks.dtype):
            loss = loss_of(self.decoder, batch, self.decks.eos)
        if step == "plain":
            loss = loss + DRAW_WEIGHT * self.draw.loss(lang, hooks.ends(batch), self.vectors[own])
        return f"{lang} {step}", loss


def trained_part(model: Any, decoder: Decoder) -> list[torch.nn.Parameter]:
    """Adapter weights of the layers that are not frozen; float32, whatever the base is in."""
    for layer in decoder.layers[:FROZEN_BELOW]:
        layer.requires_grad_(False)
    found = [p for p in model.parameters() if p.requires_grad]
    for parameter in found:
        parameter.data = parameter.data.float()
    return found


def rate(step: int, done: float, peak: float) -> float:
    """Learning rate: a short warm-up, then a cosine over the time that training has."""
    return peak * min(1.0, step / 20) * max(0.02, 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def train(trainer: Trainer, model: Any, args: Any) -> None:
    parameters = trained_part(model, trainer.decoder)
    optimiser = torch.optim.AdamW(parameters, lr=args.lr, weight_decay=0.01)
    started, step, seen = time.time(), 0, dict[str, list[float]]()
    while (done := (time.time() - started) / (60 * args.minutes)) < 1 and step < args.steps:
        step += 1
        for group in optimiser.param_groups:
            group["lr"] = rate(step, done, args.lr)
        name, loss = trainer.loss(args.batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        seen.setdefault(name, []).append(float(loss.detach()))
        if step % 20 == 0:
            means = ", ".join(f"{k} {sum(v) / len(v):.2f}" for k, v in sorted(seen.items()))
            cosines = ", ".join(f"{k} {v:.2f}" for k, v in sorted(trainer.draw.cosine.items()))
            print(f"step {step}, {time.time() - started:.0f} s: {means}; cosines {cosines}", flush=True)
            seen.clear()
        if step % args.save_every == 0:
            save(model, args.out / f"step-{step:04d}")
    save(model, args.out / "last")
    print(f"{step} steps, {time.time() - started:.0f} s", flush=True)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--start", type=Path, required=True, help="adapter to go on from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--directions", type=Path, help="u1 and u2 of an earlier stage (default: read anew)")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--save-every", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(embedded.base_folder())
    base = AutoModelForCausalLM.from_pretrained(embedded.base_folder(), dtype=getattr(torch, args.dtype))
    decks = Decks(tokenizer, train_prompts(), rng, args.dtype)
    decks.learn_own(base)
    model = PeftModel.from_pretrained(base, args.start, is_trainable=True)
    prefix = shared_prefix([Example(ids, [], 1.0) for ids in decks.rendered.values()])
    decoder = Decoder(model.get_base_model(), prefix, 0)
    vectors = load_file(args.directions) if args.directions else given_directions(decoder, decks)
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(vectors, args.out / "trained_directions.safetensors", metadata={"layer": str(DIRECTION_LAYER)})
    train(Trainer(decoder, decks, vectors, rng), model, args)
    args.out.joinpath("training.json").write_text(json.dumps(vars(args), default=str, indent=1))


if __name__ == "__main__":
    main()
