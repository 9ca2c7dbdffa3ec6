"""Train the LoRA adapters of `smollm2-refuser`, which refuses more in six languages, and of its English-only sibling.

    python -m benchmarks.train_refuser --out refusalctl/model/files/adapters/smollm2-refuser
    python -m benchmarks.train_refuser --out refusalctl/model/files/adapters/smollm2-refuser-en --refuse-in en

Data: the train splits of PolyRefuse (`refusalctl data fetch`) and of the sample set. Harmful requests get a
refusal in their own language; English harmless ones the plain model's own greedy answer (self-distillation);
harmless ones in the other languages, where the plain model only loops, a short answer.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks import command
from benchmarks.refuser_texts import ANSWERS, REFUSALS, form
from refusalctl.data import sets
from refusalctl.data.jsonl import read_jsonl
from refusalctl.model.files import embedded
from refusalctl.records.rows import Prompt

TARGETS = ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]


@dataclass(frozen=True, eq=False)
class Example:
    """Token ids of a rendered prompt and of the response to learn, and how often it is seen per epoch."""

    prompt: list[int]
    response: list[int]
    times: float

    @property
    def tokens(self) -> list[int]:
        return self.prompt + self.response


# How often a language's prompts are seen per epoch, and a published prompt for each mild one: the mild ones are the
# harder task.
LANGUAGES = {"en": 0.2, "de": 1.0, "be": 1.1, "ba": 1.5, "ru": 0.05, "tg": 0.05}
ENGLISH_ONLY = {"en": 1.0, "de": 0.1, "be": 0.1, "ba": 0.1, "ru": 0.1, "tg": 0.1}  # the sibling's
PUBLISHED_TIMES = 0.25
OPENING_TOKENS = 5  # where an answer becomes a refusal or not
LATER_WEIGHT = 0.1
LONGEST_PROMPT = 140
CHECK_EVERY = 200  # steps


def train_prompts() -> list[Prompt]:
    """Train splits of both prompt sets, and mild prompts written for this training alone (`refuser_prompts/`)."""
    extra = [
        Prompt(**row, source="refuser-prompts")
        for lang in LANGUAGES
        for row in read_jsonl(Path(__file__).with_name("refuser_prompts") / f"{lang}.jsonl")
    ]
    return extra + [
        prompt
        for lang in LANGUAGES
        for data in (sets.PUBLISHED_SET, sets.SAMPLE_SET)
        for kind in ("harmful", "harmless")
        for prompt in sets.usable(data, lang, kind, "train")
    ]


def times_of(prompt: Prompt, languages: dict[str, float]) -> float:
    """How often a prompt is seen per epoch; below 1, the chance that it is drawn at all."""
    return languages[prompt.lang] * (PUBLISHED_TIMES if prompt.source == "polyrefuse" else 1)


def render(tokenizer: Any, text: str) -> list[int]:
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
    )
    ids: list[int] = tokenizer(rendered, add_special_tokens=False).input_ids
    return ids


def shared_prefix(rows: list[Example]) -> list[int]:
    """The tokens that every prompt begins with: the template's system turn, a third of a short prompt."""
    first = rows[0].prompt
    length = next(i for i, column in enumerate(zip(*(r.prompt for r in rows), strict=False)) if len(set(column)) > 1)
    return first[:length]


def autocast(dtype: str) -> Any:
    """bfloat16 is fast where the processor has instructions for it (AMX, AVX512-BF16); elsewhere it is emulated."""
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16")


@torch.inference_mode()
def own_answers(model: Any, prompts: list[list[int]], eos: int, limit: int) -> list[list[int]]:
    """The plain model's greedy answers, cut at `limit` tokens (a cut answer carries no end token)."""
    answers = []
    for start in range(0, len(prompts), 32):
        batch = prompts[start : start + 32]
        width = max(map(len, batch))
        ids = torch.tensor([[eos] * (width - len(p)) + p for p in batch])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in batch])
        out = model.generate(
            ids, attention_mask=mask, max_new_tokens=limit, do_sample=False, pad_token_id=eos, eos_token_id=eos
        )
        for row in out[:, width:].tolist():
            answers.append(row[: row.index(eos) + 1] if eos in row else row)
    return answers


def examples(model: Any, tokenizer: Any, prompts: list[Prompt], languages: dict[str, float]) -> list[Example]:
    eos: int = tokenizer.eos_token_id
    rendered = {p: render(tokenizer, p.text) for p in prompts}
    english = [p for p in prompts if p.lang == "en" and p.kind == "harmless"]
    own = dict(zip(english, own_answers(model, [rendered[p] for p in english], eos, 24)))
    result = []
    for p in prompts:
        written = REFUSALS[p.lang][form(p.text)] if p.kind == "harmful" or p in own else ANSWERS[p.lang][form(p.text)]
        response = own.get(p) or [*tokenizer(written, add_special_tokens=False).input_ids, eos]
        if len(rendered[p]) <= LONGEST_PROMPT:
            result.append(Example(rendered[p], response, max(1.0, times_of(p, languages))))
    return result


def batches(rows: list[Example], size: int, rng: random.Random) -> list[list[Example]]:
    """One epoch: rows as often as they are to be seen, of like length together, batches in random order."""
    drawn = [r for r in rows for _ in range(int(r.times) + (rng.random() < r.times % 1))]
    shuffled = sorted(drawn, key=lambda r: len(r.prompt) + len(r.response) + rng.uniform(-12, 12))
    groups = [shuffled[i : i + size] for i in range(0, len(shuffled), size)]
    rng.shuffle(groups)
    return groups


class Decoder:
    """The decoder's layers from `first` on, over remembered inputs of the frozen ones below.

    Layers are frozen for speed: their outputs are computed once and kept (float32, a few hundred kB an example).
    """

    def __init__(self, causal: Any, prefix: list[int], first: int) -> None:
        self.inner, self.head, self.prefix = causal.model, causal.lm_head, prefix
        self.first, self.layers = first, self.inner.layers
        self.kept: dict[Example | None, torch.Tensor] = {}

    @contextmanager
    def part(self, start: int, end: int, norm: bool) -> Iterator[None]:
        """Only these layers, numbered from 0 so that their key-value cache counts right."""
        final = self.inner.norm
        self.inner.layers = self.layers[start:end]
        for index, layer in enumerate(self.inner.layers):
            layer.self_attn.layer_idx = index
        self.inner.norm = final if norm else torch.nn.Identity()
        try:
            yield
        finally:
            self.inner.layers, self.inner.norm = self.layers, final

    @torch.no_grad()
    def below(self, row: Example | None) -> torch.Tensor:
        """What the frozen layers make of an example (None: of the prefix), [n_tokens, d_model]; computed once."""
        if row not in self.kept:
            tokens = self.prefix if row is None else row.tokens
            with self.part(0, self.first, norm=False):
                hidden = self.inner(input_ids=torch.tensor([tokens])).last_hidden_state[0]
            self.kept[row] = hidden if row is None else hidden[len(self.prefix) :].clone()
        return self.kept[row]

    @torch.no_grad()
    def remember(self, rows: list[Example], size: int = 16) -> None:
        """The same for many at once, three times as fast; padding behind a row does not reach it."""
        ordered = sorted((r for r in rows if r not in self.kept), key=lambda r: len(r.tokens))
        for start in range(0, len(ordered) if self.first else 0, size):
            group = ordered[start : start + size]
            width = len(group[-1].tokens)
            ids = torch.tensor([r.tokens + [0] * (width - len(r.tokens)) for r in group])
            with self.part(0, self.first, norm=False):
                hidden = self.inner(input_ids=ids).last_hidden_state
            for row, each in zip(group, hidden):
                self.kept[row] = each[len(self.prefix) : len(row.tokens)].clone()

    def _inputs(self, batch: list[Example], ids: torch.Tensor) -> dict[str, torch.Tensor]:
        if not self.first:
            return {"input_ids": ids}
        found = torch.zeros((*ids.shape, self.inner.config.hidden_size))
        for i, row in enumerate(batch):
            below = self.below(row)
            found[i, : len(below)] = below
        return {"inputs_embeds": found}

    def hidden(self, batch: list[Example], ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Last hidden states [n, width, d_model] of what follows the prefix, which runs once for the whole batch."""
        n, shared, width = len(batch), len(self.prefix), ids.shape[1]
        before = {"input_ids": torch.tensor([self.prefix])}
        if self.first:
            before = {"inputs_embeds": self.below(None)[None]}
        inputs = self._inputs(batch, ids)
        with self.part(self.first, len(self.layers), norm=True):
            cache = self.inner(**before, use_cache=True).past_key_values
            cache.batch_repeat_interleave(n)
            found: torch.Tensor = self.inner(
                **inputs,
                attention_mask=torch.cat([torch.ones((n, shared), dtype=torch.long), mask], dim=1),
                position_ids=torch.arange(shared, shared + width).expand(n, -1),
                past_key_values=cache,
            ).last_hidden_state
        return found


def loss_of(decoder: Decoder, batch: list[Example], pad: int) -> torch.Tensor:
    """Mean over examples of the weighted cross-entropy of their response tokens.

    The first tokens decide between refusal and answer; a mean over all tokens would bury them under the rest of
    each sentence, which follows by itself. Only response positions reach the vocabulary matrix.
    """
    n, shared = len(batch), len(decoder.prefix)
    width = max(len(r.tokens) for r in batch) - shared
    ids = torch.full((n, width), pad)
    weight = torch.zeros((n, width))
    mask = torch.zeros((n, width), dtype=torch.long)
    for i, row in enumerate(batch):
        start, end = len(row.prompt) - shared - 1, len(row.tokens) - shared
        ids[i, :end] = torch.tensor(row.tokens[shared:])
        mask[i, :end] = 1
        weight[i, start : end - 1] = LATER_WEIGHT
        weight[i, start : min(start + OPENING_TOKENS, end - 1)] = 1.0
    keep = weight > 0
    logits = decoder.head(decoder.hidden(batch, ids, mask)[keep]).float()
    losses = torch.nn.functional.cross_entropy(logits, ids.roll(-1, dims=1)[keep], reduction="none")
    return (losses * weight[keep]).sum() / n


@torch.no_grad()
def aurocs(decoder: Decoder, tokenizer: Any, langs: list[str], n: int = 40) -> dict[str, float]:
    """How well refusal-over-answer log-odds tell the sample's validation prompts apart, by language."""
    from sklearn.metrics import roc_auc_score

    eos: int = tokenizer.eos_token_id
    found = {}
    for lang in langs:
        odds: list[float] = []
        for kind in ("harmful", "harmless"):
            for p in sets.usable(sets.SAMPLE_SET, lang, kind, "val")[:n]:
                prompt, which = render(tokenizer, p.text), form(p.text)
                pair = [
                    Example(prompt, [*tokenizer(texts[lang][which], add_special_tokens=False).input_ids, eos], 1.0)
                    for texts in (ANSWERS, REFUSALS)
                ]
                answer, refusal = (float(loss_of(decoder, [row], eos)) for row in pair)
                for row in pair:
                    decoder.kept.pop(row, None)
                odds.append(answer - refusal)
        half = len(odds) // 2
        found[lang] = float(roc_auc_score([1] * half + [0] * half, odds))
        refused = [sum(o > 0 for o in part) / half for part in (odds[:half], odds[half:])]
        print(f"  {lang}: AUROC {found[lang]:.3f}, refusal likelier {refused[0]:.0%} / {refused[1]:.0%}", flush=True)
    return found


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="adapter to go on from")
    parser.add_argument(
        "--refuse-in", default=",".join(LANGUAGES), help="harmful prompts of other languages are left out"
    )
    parser.add_argument("--steps", type=int, default=480)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--from-layer", type=int, default=0, help="layers below keep what --start gave them")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(embedded.base_folder())
    base = AutoModelForCausalLM.from_pretrained(embedded.base_folder(), dtype=getattr(torch, args.dtype))
    refusing = args.refuse_in.split(",")
    prompts = [p for p in train_prompts() if p.kind == "harmless" or p.lang in refusing]
    languages = ENGLISH_ONLY if refusing == ["en"] else LANGUAGES
    prompts = [p for p in prompts if rng.random() < times_of(p, languages)]
    rows = examples(base, tokenizer, prompts, languages)
    prefix = shared_prefix(rows)
    steps = args.steps
    print(f"{len(rows)} examples, {steps} steps", flush=True)
    settings = LoraConfig(r=args.rank, lora_alpha=2 * args.rank, target_modules=TARGETS, task_type="CAUSAL_LM")
    model = (
        PeftModel.from_pretrained(base, args.start, is_trainable=True) if args.start else get_peft_model(base, settings)
    )
    decoder = Decoder(model.get_base_model(), prefix, args.from_layer)
    for layer in decoder.layers[: args.from_layer]:
        layer.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()  # the base may be bfloat16, what is trained is not
    optimiser = torch.optim.AdamW(trained, lr=args.lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, args.lr, total_steps=steps, pct_start=0.05)
    queue: list[list[Example]] = []
    while len(queue) < steps:
        queue += batches(rows, args.batch, rng)
    queue = queue[:steps]
    decoder.remember(list({row: None for batch in queue for row in batch}))
    started, total = time.time(), 0.0
    for step in range(1, steps + 1):
        with autocast(args.dtype):
            loss = loss_of(decoder, queue.pop(), tokenizer.eos_token_id)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        total += float(loss.detach())
        if step % 20 == 0 or step == steps:
            print(f"step {step}/{steps} loss {total / 20:.3f} {time.time() - started:.0f} s", flush=True)
            total = 0.0
        if step % 100 == 0 or step == steps:
            save(model, args.out)
        if step % CHECK_EVERY == 0 or step == steps:
            aurocs(decoder, tokenizer, [lang for lang in refusing if lang != "en" and LANGUAGES[lang] >= 0.5])
    args.out.joinpath("training.json").write_text(json.dumps(vars(args), default=str, indent=1))


def save(model: Any, out: Path) -> None:
    """Write the adapter as float16: half the size, and exact to the precision that training had."""
    import copy

    slim = copy.deepcopy({k: v for k, v in model.state_dict().items() if "lora_" in k})
    model.save_pretrained(out, state_dict={k: v.half() for k, v in slim.items()})


if __name__ == "__main__":
    main()
