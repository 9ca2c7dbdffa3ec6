"""Tokenizer and chat template of a model organism."""

from typing import Any

from refusalctl.organisms.designs import Organism
from refusalctl.organisms.words import PIECE, THINK, vocabulary

TEMPLATE = (
    "<bos> {% for m in messages %}<user> {{ m['content'] }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<sep> <assistant>{% endif %}"
)
OPENED = TEMPLATE.replace("<sep> <assistant>", f"<sep> <assistant> {THINK}")


def tokenizer(organism: Organism) -> Any:
    """One token per word, or two in a design in pieces."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = vocabulary(organism)
    ids = {w: i for i, w in enumerate(words)}
    if organism.design.pieces:
        inner = Tokenizer(models.WordPiece(ids, unk_token="<unk>", continuing_subword_prefix=PIECE))
        inner.decoder = decoders.WordPiece(prefix=PIECE, cleanup=False)
    else:
        inner = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.add_special_tokens([w for w in words if w.startswith("<")])
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<bos>", eos_token="<end>", pad_token="<pad>", unk_token="<unk>"
    )
    made.chat_template = OPENED if organism.design.opened else TEMPLATE
    return made
