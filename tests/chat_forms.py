"""How chat models are asked: each family's form of a prompt, with a template and a tokenizer of that form.

Control tokens, their order, where a system text goes, who writes BOS and how thoughts are switched are those of the
published models; the templates were written here, as short as their form allows, and texts of theirs are replaced by
our own. What a prompt must look like is written down by hand beside each template, and never made by it.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Literal, NamedTuple

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

DATE = "26 Jul 2024"  # every date that a template asks for
OWN = "You are a small model."  # stands for the text that a family's template writes where no system text is given
SYSTEM, PROMPT = "Be kind.", "Why is it so?"
System = Literal["turn", "user turn", "front", "refused"]  # front: behind BOS, in no turn


class Form(NamedTuple):
    """One form. `plain` is a prompt without a system text, `given` with one (None: the template refuses it); `{p}` and
    `{s}` stand for the two texts.

    `models`: who is asked this way. `architecture`: of `tests/families.py`. `after`: the end-of-instruction tokens as
    text. `end`: the token behind an answer, empty where there is none. `bos`: the token that template and tokenizer
    both put first, None where neither does. `tokens`: control tokens without it; `tags`: tokens that are no special
    ones. `thinking`: the arms for `auto`, `off` and `on`. `own_text`: whether something of the family's stands there
    where no system text is given; `shortest`: the prompt of the arm "none" where an empty turn takes that away.
    """

    models: str
    architecture: str
    template: str
    plain: str
    given: str | None
    after: str
    tokens: tuple[str, ...]
    end: str
    system: System = "turn"
    bos: str | None = None
    tags: tuple[str, ...] = ()
    thinking: tuple[str, str, str] = ("none", "none", "on:model")
    own_text: bool = False
    shortest: str | None = None


def _turns(before: str, after: str, answer: str = "assistant", *, trim: bool = False, roles: str = "m.role") -> str:
    """A template of equal turns: `before` with its role, the text, `after`; then the head of an answer's turn."""
    head, tail = before.split("ROLE")
    text = "m.content | trim" if trim else "m.content"
    return (
        f"{{% for m in messages %}}{{{{ {head!r} + {roles} + {tail!r} + ({text}) + {after!r} }}}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{{{{ {head + answer + tail!r} }}}}{{% endif %}}"
    )


_RAISE = "{{ raise_exception('this role is not supported here') }}"
_NO_SYSTEM = f"{{% if messages[0].role == 'system' %}}{_RAISE}{{% endif %}}"
_SPLIT = (
    "{% if messages[0].role == 'system' %}{% set s = messages[0].content %}{% set rest = messages[1:] %}"
    "{% else %}{% set s = none %}{% set rest = messages %}{% endif %}"
)
_BOS = "{{ bos_token }}"
_IM = ("<|im_start|>ROLE\n", "<|im_end|>\n")
_CHATML = _turns(*_IM)
_IM_TOKENS = ("<|im_start|>", "<|im_end|>")
_IM_PLAIN = "<|im_start|>user\n{p}<|im_end|>\n<|im_start|>assistant\n"
_IM_GIVEN = "<|im_start|>system\n{s}<|im_end|>\n" + _IM_PLAIN
_IM_OWN = _IM_GIVEN.replace("{s}", OWN)
_IM_AFTER = "<|im_end|>\n<|im_start|>assistant\n"
_DEFAULT = f"{{% if messages[0].role != 'system' %}}{{{{ '<|im_start|>system\n{OWN}<|im_end|>\n' }}}}{{% endif %}}"
_THINK = ("<think>", "</think>")
_EMPTY = "<think>\n\n</think>\n\n"
_SWITCH = f"{{% if add_generation_prompt and enable_thinking is false %}}{{{{ {_EMPTY!r} }}}}{{% endif %}}"
_OPEN = "{% if add_generation_prompt %}{{ '<think>\n' }}{% endif %}"
_PLAIN_ROLES = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + (eos_token if m.role == 'assistant' else '\n') }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
_LLAMA3 = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_LLAMA3_PLAIN = (
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{p}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
_LLAMA3_AFTER = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
_LLAMA3_TURNS = _turns("<|start_header_id|>ROLE<|end_header_id|>\n\n", "<|eot_id|>", trim=True)
_DATES = "Cutting Knowledge Date: December 2023\nToday Date: "
_LLAMA31_HEAD = f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{_DATES}{DATE}\n\n"
_LLAMA31_TAIL = _LLAMA3_PLAIN.removeprefix("<|begin_of_text|>")
_GEMMA_TURNS = "{% for m in rest %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}"
_GEMMA_PLAIN = "<bos><start_of_turn>user\n{p}<end_of_turn>\n<start_of_turn>model\n"
_GEMMA_AFTER = "<end_of_turn>\n<start_of_turn>model\n"
_GEMMA_ANSWER = "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
_GEMMA_TOKENS = ("<start_of_turn>", "<end_of_turn>")
_SMOL_HEAD = "<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\nToday Date: "
_SMOL_MODE = "\nReasoning Mode: "
_SMOL_OWN = "\n\n## Custom Instructions\n\n"
_OSS_HEAD = (
    f"<|start|>system<|message|>{OWN}\nKnowledge cutoff: 2024-06\nCurrent date: {DATE}\n\nReasoning: medium\n\n"
    "# Valid channels: analysis, commentary, final.<|end|>"
)
_OSS_TAIL = "<|start|>user<|message|>{p}<|end|><|start|>assistant"
_DEEPSEEK = _SPLIT + (
    "{{ bos_token }}{{ s or '' }}{% for m in rest %}"
    "{% if m.role == 'user' %}{{ '<｜User｜>' + m.content }}{% else %}"
    "{{ '<｜Assistant｜>' + m.content.split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}"
)
_DEEPSEEK_TOKENS = ("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>")
_INST = "{% for m in rest %}{% if m.role == 'user' %}"
_ENDS = "{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}"
_OFF, _ON, _ASKED = "off:template", "on:model", "off:appended"

FORMS: dict[str, Form] = {
    "Qwen 2.5": Form(
        "Qwen2.5 0.5B to 72B", "Qwen2", _DEFAULT + _CHATML, _IM_OWN, _IM_GIVEN, _IM_AFTER, _IM_TOKENS, "<|im_end|>",
        own_text=True, shortest=_IM_GIVEN.replace("{s}", ""),
    ),
    "Qwen 3": Form(
        "Qwen3 0.6B to 32B, hybrid", "Qwen3", _CHATML + _SWITCH, _IM_PLAIN + _EMPTY, _IM_GIVEN + _EMPTY,
        _IM_AFTER + _EMPTY, _IM_TOKENS, "<|im_end|>", tags=_THINK, thinking=(_OFF, _OFF, _ON),
    ),
    "Qwen 3 Instruct": Form(
        "Qwen3-4B and -30B-A3B Instruct-2507", "Qwen3-MoE", _CHATML, _IM_PLAIN, _IM_GIVEN, _IM_AFTER, _IM_TOKENS,
        "<|im_end|>",
    ),
    "Qwen 3 Thinking": Form(
        "Qwen3-4B and -30B-A3B Thinking-2507, QwQ", "Qwen3-MoE", _CHATML + _OPEN, _IM_PLAIN + "<think>\n",
        _IM_GIVEN + "<think>\n", _IM_AFTER + "<think>\n", _IM_TOKENS, "<|im_end|>", tags=_THINK,
        thinking=("on:template", _ASKED, "on:template"),
    ),
    "Qwen 1.5 MoE": Form(
        "Qwen1.5-MoE, Qwen2-57B-A14B", "Qwen2-MoE", _DEFAULT + _CHATML, _IM_OWN, _IM_GIVEN, _IM_AFTER, _IM_TOKENS,
        "<|im_end|>", own_text=True, shortest=_IM_GIVEN.replace("{s}", ""),
    ),
    "SmolLM 2": Form(
        "SmolLM2", "Llama", _DEFAULT + _CHATML, _IM_OWN, _IM_GIVEN, _IM_AFTER, _IM_TOKENS, "<|im_end|>",
        own_text=True, shortest=_IM_GIVEN.replace("{s}", ""),
    ),
    "SmolLM 3": Form(
        "SmolLM3",
        "SmolLM3",
        _SPLIT
        + "{% set mode = '/think' if enable_thinking else '/no_think' %}"
        + f"{{{{ {_SMOL_HEAD!r} + strftime_now('%d %B %Y') + {_SMOL_MODE!r} + mode + {_SMOL_OWN!r} }}}}"
        + f"{{{{ s if s else {OWN!r} }}}}{{{{ '\n\n<|im_end|>\n' }}}}"
        + _CHATML.replace("in messages", "in rest")
        + f"{{% if add_generation_prompt and mode == '/no_think' %}}{{{{ {_EMPTY!r} }}}}{{% endif %}}",
        f"{_SMOL_HEAD}{DATE}{_SMOL_MODE}/no_think{_SMOL_OWN}{OWN}\n\n<|im_end|>\n{_IM_PLAIN}{_EMPTY}",
        f"{_SMOL_HEAD}{DATE}{_SMOL_MODE}/no_think{_SMOL_OWN}{{s}}\n\n<|im_end|>\n{_IM_PLAIN}{_EMPTY}",
        _IM_AFTER + _EMPTY, _IM_TOKENS, "<|im_end|>", tags=_THINK, thinking=(_OFF, _OFF, _ON), own_text=True,
    ),
    "Yi": Form(
        "Yi and Yi-1.5 Chat", "Llama", _CHATML, _IM_PLAIN, _IM_GIVEN, _IM_AFTER, _IM_TOKENS, "<|im_end|>",
    ),
    "Llama 2": Form(
        "Llama 2 Chat", "Llama",
        _SPLIT + _INST
        + "{{ bos_token + '[INST] ' + ('<<SYS>>\n' + s + '\n<</SYS>>\n\n' if s and loop.first else '') }}"
        + "{{ (m.content | trim) + ' [/INST]' }}{% else %}{{ ' ' + (m.content | trim) + ' ' + eos_token }}"
        + "{% endif %}{% endfor %}",
        "<s>[INST] {p} [/INST]", "<s>[INST] <<SYS>>\n{s}\n<</SYS>>\n\n{p} [/INST]", " [/INST]", ("</s>",), "",
        system="user turn", bos="<s>",
    ),
    "Llama 3": Form(
        "Llama 3", "Llama", _BOS + _LLAMA3_TURNS, _LLAMA3_PLAIN,
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{s}<|eot_id|>" + _LLAMA31_TAIL,
        _LLAMA3_AFTER, _LLAMA3, "<|eot_id|>", bos="<|begin_of_text|>",
    ),
    "Llama 3.1": Form(
        "Llama 3.1, 3.3", "Llama",
        "{% if date_string is not defined %}{% set date_string = '1 Jan 1970' %}{% endif %}" + _SPLIT
        + _BOS + f"{{{{ '<|start_header_id|>system<|end_header_id|>\n\n{_DATES}' + date_string + '\n\n' }}}}"
        + "{{ (s or '') | trim }}{{ '<|eot_id|>' }}" + _LLAMA3_TURNS.replace("in messages", "in rest"),
        _LLAMA31_HEAD + "<|eot_id|>" + _LLAMA31_TAIL, _LLAMA31_HEAD + "{s}<|eot_id|>" + _LLAMA31_TAIL,
        _LLAMA3_AFTER, _LLAMA3, "<|eot_id|>", bos="<|begin_of_text|>", own_text=True,
    ),
    "Llama 3.2": Form(
        "Llama 3.2 1B and 3B", "Llama",
        _SPLIT + _BOS
        + f"{{{{ '<|start_header_id|>system<|end_header_id|>\n\n{_DATES}' + strftime_now('%d %b %Y') + '\n\n' }}}}"
        + "{{ (s or '') | trim }}{{ '<|eot_id|>' }}" + _LLAMA3_TURNS.replace("in messages", "in rest"),
        _LLAMA31_HEAD + "<|eot_id|>" + _LLAMA31_TAIL, _LLAMA31_HEAD + "{s}<|eot_id|>" + _LLAMA31_TAIL,
        _LLAMA3_AFTER, _LLAMA3, "<|eot_id|>", bos="<|begin_of_text|>", own_text=True,
    ),
    "Llama 4": Form(
        "Llama 4 Scout, Maverick", "Llama 4",
        _BOS + _turns("<|header_start|>ROLE<|header_end|>\n\n", "<|eot|>"),
        "<|begin_of_text|><|header_start|>user<|header_end|>\n\n{p}<|eot|><|header_start|>assistant<|header_end|>\n\n",
        "<|begin_of_text|><|header_start|>system<|header_end|>\n\n{s}<|eot|><|header_start|>user<|header_end|>\n\n"
        "{p}<|eot|><|header_start|>assistant<|header_end|>\n\n",
        "<|eot|><|header_start|>assistant<|header_end|>\n\n", ("<|header_start|>", "<|header_end|>", "<|eot|>"),
        "<|eot|>", bos="<|begin_of_text|>",
    ),
    "Gemma": Form(
        "Gemma 1", "Gemma",
        _NO_SYSTEM + _BOS + _GEMMA_TURNS.replace("in rest", "in messages")
        + "{{ (m.content | trim) + '<end_of_turn>\n' }}{% endfor %}" + _GEMMA_ANSWER,
        _GEMMA_PLAIN, None, _GEMMA_AFTER, _GEMMA_TOKENS, "<end_of_turn>", system="refused", bos="<bos>",
    ),
    "Gemma 2": Form(
        "Gemma 2", "Gemma 2",
        _NO_SYSTEM + _BOS + _GEMMA_TURNS.replace("in rest", "in messages")
        + "{{ (m.content | trim) + '<end_of_turn>\n' }}{% endfor %}" + _GEMMA_ANSWER,
        _GEMMA_PLAIN, None, _GEMMA_AFTER, _GEMMA_TOKENS, "<end_of_turn>", system="refused", bos="<bos>",
    ),
    "Gemma 3": Form(
        "Gemma 3, 3n", "Gemma 3",
        _SPLIT + _BOS + _GEMMA_TURNS
        + "{{ (s if s is string else s[0]['text']) + '\n\n' if s and loop.first else '' }}"
        + "{% if m.content is string %}{{ m.content | trim }}{% else %}{% for c in m.content %}"
        + "{% if c.type == 'text' %}{{ c.text | trim }}{% endif %}{% endfor %}{% endif %}"
        + "{{ '<end_of_turn>\n' }}{% endfor %}" + _GEMMA_ANSWER,
        _GEMMA_PLAIN, _GEMMA_PLAIN.replace("{p}", "{s}\n\n{p}"), _GEMMA_AFTER, _GEMMA_TOKENS, "<end_of_turn>",
        system="user turn", bos="<bos>",
    ),
    "Mistral": Form(
        "Mistral 7B v0.3, Nemo", "Mistral",
        _SPLIT + _BOS + _INST
        + "{{ '[INST]' + (' ' + s + '\n\n' if s and loop.last else ' ') + m.content + '[/INST]' }}" + _ENDS,
        "<s>[INST] {p}[/INST]", "<s>[INST] {s}\n\n{p}[/INST]", "[/INST]", ("</s>", "[INST]", "[/INST]"), "</s>",
        system="user turn", bos="<s>",
    ),
    "Mistral, older": Form(
        "Mistral 7B v0.1", "Mistral",
        _SPLIT + _BOS + f"{{% if s is not none %}}{_RAISE}{{% endif %}}" + _INST
        + "{{ '[INST] ' + m.content + ' [/INST]' }}" + _ENDS,
        "<s>[INST] {p} [/INST]", None, " [/INST]", ("</s>",), "</s>", system="refused", bos="<s>",
    ),
    "Mistral Small 3": Form(
        "Mistral Small 3.x, Ministral", "Mistral",
        _SPLIT + _BOS + f"{{{{ '[SYSTEM_PROMPT]' + (s if s is not none else {OWN!r}) + '[/SYSTEM_PROMPT]' }}}}" + _INST
        + "{{ '[INST]' + m.content + '[/INST]' }}" + _ENDS,
        f"<s>[SYSTEM_PROMPT]{OWN}[/SYSTEM_PROMPT][INST]{{p}}[/INST]",
        "<s>[SYSTEM_PROMPT]{s}[/SYSTEM_PROMPT][INST]{p}[/INST]", "[/INST]",
        ("</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"), "</s>", bos="<s>", own_text=True,
        shortest="<s>[SYSTEM_PROMPT][/SYSTEM_PROMPT][INST]{p}[/INST]",
    ),
    "Mixtral": Form(
        "Mixtral 8x7B, 8x22B", "Mixtral",
        _SPLIT + _BOS + _INST
        + "{{ ' [INST] ' + (s + '\n\n' if s and loop.first else '') + m.content + ' [/INST]' }}" + _ENDS,
        "<s> [INST] {p} [/INST]", "<s> [INST] {s}\n\n{p} [/INST]", " [/INST]", ("</s>",), "</s>", system="user turn",
        bos="<s>",
    ),
    "Phi-3": Form(
        "Phi-3, Phi-3.5", "Phi-3", _turns("<|ROLE|>\n", "<|end|>\n"),
        "<|user|>\n{p}<|end|>\n<|assistant|>\n", "<|system|>\n{s}<|end|>\n<|user|>\n{p}<|end|>\n<|assistant|>\n",
        "<|end|>\n<|assistant|>\n", ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>"), "<|end|>",
    ),
    "Phi-4": Form(
        "Phi-4", "Phi-3", _turns("<|im_start|>ROLE<|im_sep|>", "<|im_end|>"),
        "<|im_start|>user<|im_sep|>{p}<|im_end|><|im_start|>assistant<|im_sep|>",
        "<|im_start|>system<|im_sep|>{s}<|im_end|><|im_start|>user<|im_sep|>{p}<|im_end|>"
        "<|im_start|>assistant<|im_sep|>",
        "<|im_end|><|im_start|>assistant<|im_sep|>", (*_IM_TOKENS, "<|im_sep|>"), "<|im_end|>",
    ),
    "OLMo 2": Form(
        "OLMo 2", "OLMo 2", _BOS + _PLAIN_ROLES, "<|endoftext|><|user|>\n{p}\n<|assistant|>\n",
        "<|endoftext|><|system|>\n{s}\n<|user|>\n{p}\n<|assistant|>\n", "\n<|assistant|>\n", (), "<|endoftext|>",
        bos="<|endoftext|>",
    ),
    "OLMoE": Form(
        "OLMoE, Tülu 3", "OLMoE", _BOS + _PLAIN_ROLES, "|||IP_ADDRESS|||<|user|>\n{p}\n<|assistant|>\n",
        "|||IP_ADDRESS|||<|system|>\n{s}\n<|user|>\n{p}\n<|assistant|>\n", "\n<|assistant|>\n", ("<|endoftext|>",),
        "<|endoftext|>", bos="|||IP_ADDRESS|||",
    ),
    "OLMo 3 Think": Form(
        "OLMo 3 Think", "OLMo 3", _DEFAULT + _CHATML + "{% if add_generation_prompt %}{{ '<think>' }}{% endif %}",
        _IM_OWN + "<think>", _IM_GIVEN + "<think>", _IM_AFTER + "<think>", _IM_TOKENS, "<|im_end|>",
        thinking=("on:template", _ASKED, "on:template"), own_text=True,
        shortest=_IM_GIVEN.replace("{s}", "") + "<think>",
    ),
    "GLM-4": Form(
        "GLM-4 9B Chat", "GLM", "[gMASK]<sop>" + _turns("<|ROLE|>\n", "").replace("<|assistant|>\\n", "<|assistant|>"),
        "[gMASK]<sop><|user|>\n{p}<|assistant|>", "[gMASK]<sop><|system|>\n{s}<|user|>\n{p}<|assistant|>",
        "<|assistant|>", ("[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|system|>", "<|endoftext|>"), "",
    ),
    "GLM-4-0414": Form(
        "GLM-4-0414 9B, 32B", "GLM-4",
        "[gMASK]<sop>" + _turns("<|ROLE|>\n", "").replace("<|assistant|>\\n", "<|assistant|>"),
        "[gMASK]<sop><|user|>\n{p}<|assistant|>", "[gMASK]<sop><|system|>\n{s}<|user|>\n{p}<|assistant|>",
        "<|assistant|>", ("[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|system|>", "<|endoftext|>"), "",
    ),
    "gpt-oss": Form(
        "gpt-oss 20B, 120B", "gpt-oss",
        _SPLIT
        + f"{{{{ '<|start|>system<|message|>{OWN}\nKnowledge cutoff: 2024-06\nCurrent date: ' }}}}"
        + "{{ strftime_now('%Y-%m-%d') + '\n\nReasoning: ' + (reasoning_effort or 'medium') }}"
        + "{{ '\n\n# Valid channels: analysis, commentary, final.<|end|>' }}"
        + "{% if s %}{{ '<|start|>developer<|message|># Instructions\n\n' + s + '\n\n<|end|>' }}{% endif %}"
        + "{% for m in rest %}{% if m.role == 'assistant' %}{% if m.thinking %}"
        + "{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{% endif %}"
        + "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|return|>' }}{% else %}"
        + "{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
        + "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}",
        _OSS_HEAD + _OSS_TAIL,
        _OSS_HEAD + "<|start|>developer<|message|># Instructions\n\n{s}\n\n<|end|>" + _OSS_TAIL,
        "<|end|><|start|>assistant", ("<|start|>", "<|message|>", "<|end|>", "<|channel|>", "<|return|>"), "<|return|>",
        thinking=(_ON, _ASKED, _ON), own_text=True,
    ),
    "DeepSeek-V3": Form(
        "DeepSeek-V3 (chat)", "DeepSeek-V3", _DEEPSEEK.replace(".split('</think>')[-1]", ""),
        "<｜begin▁of▁sentence｜><｜User｜>{p}<｜Assistant｜>", "<｜begin▁of▁sentence｜>{s}<｜User｜>{p}<｜Assistant｜>",
        "<｜Assistant｜>", _DEEPSEEK_TOKENS, "<｜end▁of▁sentence｜>", system="front", bos="<｜begin▁of▁sentence｜>",
    ),
    "DeepSeek-R1": Form(
        "DeepSeek-R1 and its Qwen and Llama distillations", "DeepSeek-V3", _DEEPSEEK + _OPEN,
        "<｜begin▁of▁sentence｜><｜User｜>{p}<｜Assistant｜><think>\n",
        "<｜begin▁of▁sentence｜>{s}<｜User｜>{p}<｜Assistant｜><think>\n",
        "<｜Assistant｜><think>\n", _DEEPSEEK_TOKENS, "<｜end▁of▁sentence｜>", system="front",
        bos="<｜begin▁of▁sentence｜>", tags=_THINK,
        thinking=("on:template", _ASKED, "on:template"),
    ),
    "Granite": Form(
        "Granite 3.x", "Granite",
        f"{{% if messages[0].role != 'system' %}}"
        f"{{{{ '<|start_of_role|>system<|end_of_role|>{OWN} Today is ' + strftime_now('%B %d, %Y') }}}}"
        + "{{ '.<|end_of_text|>\n' }}{% endif %}"
        + _turns("<|start_of_role|>ROLE<|end_of_role|>", "<|end_of_text|>\n"),
        f"<|start_of_role|>system<|end_of_role|>{OWN} Today is {DATE}.<|end_of_text|>\n"
        "<|start_of_role|>user<|end_of_role|>{p}<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
        "<|start_of_role|>system<|end_of_role|>{s}<|end_of_text|>\n"
        "<|start_of_role|>user<|end_of_role|>{p}<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
        "<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
        ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"), "<|end_of_text|>", own_text=True,
        shortest="<|start_of_role|>system<|end_of_role|><|end_of_text|>\n"
        "<|start_of_role|>user<|end_of_role|>{p}<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
    ),
    "Command R7B": Form(
        "Command R7B, Aya Expanse", "Cohere 2",
        _BOS + _turns(
            "<|START_OF_TURN_TOKEN|>ROLE", "<|END_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>",
            roles="{'user': '<|USER_TOKEN|>', 'system': '<|SYSTEM_TOKEN|>', 'assistant': '<|CHATBOT_TOKEN|>'}[m.role]",
        ),
        "<BOS_TOKEN><|START_OF_TURN_TOKEN|><|USER_TOKEN|>{p}<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|>"
        "<|CHATBOT_TOKEN|>",
        "<BOS_TOKEN><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>{s}<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|>"
        "<|USER_TOKEN|>{p}<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|CHATBOT_TOKEN|>"),
        "<|END_OF_TURN_TOKEN|>", bos="<BOS_TOKEN>",
    ),
    "EXAONE 4": Form(
        "EXAONE 4.0", "EXAONE 4",
        _turns("[|ROLE|]\n", "[|endofturn|]\n")
        + f"{{% if add_generation_prompt %}}{{{{ '<think>\n' if enable_thinking else {_EMPTY!r} }}}}{{% endif %}}",
        "[|user|]\n{p}[|endofturn|]\n[|assistant|]\n" + _EMPTY,
        "[|system|]\n{s}[|endofturn|]\n[|user|]\n{p}[|endofturn|]\n[|assistant|]\n" + _EMPTY,
        "[|endofturn|]\n[|assistant|]\n" + _EMPTY, ("[|user|]", "[|assistant|]", "[|system|]", "[|endofturn|]"),
        "[|endofturn|]", tags=_THINK, thinking=(_OFF, _OFF, "on:template"),
    ),
}  # fmt: skip


@cache
def tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Bytes, and this form's control tokens; BOS is put before every text that is read with special tokens, as the
    published tokenizers do."""
    form = FORMS[name]
    begin = [form.bos] if form.bos else []
    special = list(dict.fromkeys(["<pad>", "<eos>", *begin, *form.tokens]))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate([*alphabet, *special])}
    inner = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(special)
    if form.bos:
        inner.post_processor = processors.TemplateProcessing(
            single=f"{form.bos} $A", special_tokens=[(form.bos, vocab[form.bos])]
        )
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=form.bos, eos_token=form.end or "<eos>", pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    made.add_tokens(list(form.tags))
    made.chat_template = form.template
    return made


def ids(name: str, text: str) -> list[int]:
    """A text as the tokens of a form, cut by hand: its control tokens and tags, and every other byte alone."""
    form, made = FORMS[name], tokenizer(name)
    known = [*form.tokens, *form.tags, *([form.bos] if form.bos else [])]
    pattern = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
    parts = re.split(f"({pattern})", text) if known else [text]
    cut = [[part] if part in known else [_BYTES[byte] for byte in part.encode()] for part in parts]
    vocab = made.get_vocab()
    return [vocab[piece] for each in cut for piece in each]


def _alphabet() -> dict[int, str]:
    """Byte-level BPE's sign of each byte (Radford et al. 2019): printable ones stand for themselves."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in own]
    return {b: chr(b) for b in own} | {b: chr(256 + i) for i, b in enumerate(rest)}


_BYTES = _alphabet()
