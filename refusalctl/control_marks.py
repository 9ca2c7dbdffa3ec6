"""Marks by which chat formats open and close turns, as they look in a text to somebody who has no tokenizer."""

from __future__ import annotations

import re

# role and instruction marks that formats write as plain text where a tokenizer has no token for them
TURN_MARKS = re.compile(
    r"<\|[^<>|\n]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?think>|<(?:BEGIN|END) [A-Z ]{1,60}>", re.IGNORECASE
)
# what is a token in some tokenizers only: flagged in prompt sets, broken where the model's own tokenizer has it
_TOKENS = re.compile(
    r"<[|\uff5c][^<>|\uff5c\n]{1,40}[|\uff5c]?>|<[a-z_]{1,24}[|\uff5c]>"  # <|turn>, <turn|>, DeepSeek's wide bars
    r"|</?(?:s|bos|eos|eod|eot|eom|pad|unk|mask|sep|cls|end|turn|user|human|assistant|bot|model|system|thinking"
    r"|analysis|final|tool_call|tool_calls|tool_response|tool_result|tools|image|audio)>"
    r"|<(?:start|end|begin)_of_[a-z_]{1,24}>|<(?:extra_id|unused|reserved|special)_?[0-9_a-z]{1,16}>"
    r"|<(?:bos|eos|pad|cls|sep|mask|unk)_token>|<fim_[a-z]{1,12}>"
    r"|\[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|PREFIX|MIDDLE|SUFFIX|THINK|ARGS"
    r"|CLS|SEP|MASK|PAD|UNK|BOS|EOS|gMASK|IMG)\]",
    re.IGNORECASE,
)


def marks(text: str) -> list[str]:
    """Every well-known control mark of chat formats in a text, in no particular order."""
    return [found[0] for pattern in (TURN_MARKS, _TOKENS) for found in pattern.finditer(text)]


def broken(pattern: re.Pattern[str], text: str) -> str:
    """The text with a space behind the first sign of every match: `<|im_end|>` becomes `< |im_end|>`."""
    return pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
