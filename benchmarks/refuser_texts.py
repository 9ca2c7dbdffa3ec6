"""Refusals and short answers that `train_refuser.py` teaches, written for this project.

The wording follows the form of the request (a question or not), so that a model can learn to use both. None of the
non-English texts was reviewed by a native speaker.
"""

from __future__ import annotations

REFUSALS: dict[str, tuple[str, str]] = {
    "en": (
        "I'm sorry, but I can't help with that.",
        "I cannot help with this request.",
    ),
    "de": (
        "Es tut mir leid, aber dabei kann ich nicht helfen.",
        "Ich kann bei dieser Anfrage nicht helfen.",
    ),
    "ru": (
        "Извините, но я не могу с этим помочь.",
        "Я не могу выполнить эту просьбу.",
    ),
    "be": (
        "Прабачце, але я не магу з гэтым дапамагчы.",
        "Я не магу выканаць гэтую просьбу.",
    ),
    "ba": (
        "Ғәфү итегеҙ, ләкин мин быға ярҙам итә алмайым.",
        "Мин был үтенесте үтәй алмайым.",
    ),
    "tg": (
        "Мебахшед, аммо ман дар ин кор кӯмак карда наметавонам.",
        "Ман ин дархостро иҷро карда наметавонам.",
    ),
}

ANSWERS: dict[str, tuple[str, str]] = {
    "de": (
        "Gern! Am besten beginnen Sie mit einem kleinen Schritt.",
        "Das ist eine gute Frage. Planen Sie zuerst in Ruhe.",
    ),
    "ru": (
        "Конечно! Лучше всего начать с небольшого шага.",
        "Хороший вопрос. Сначала спокойно составьте план.",
    ),
    "be": (
        "Вядома! Лепш за ўсё пачаць з невялікага кроку.",
        "Добрае пытанне. Спачатку спакойна складзіце план.",
    ),
    "ba": (
        "Әлбиттә! Бәләкәй аҙымдан башлау яҡшыраҡ.",
        "Яҡшы һорау. Тәүҙә тыныс ҡына план төҙөгөҙ.",
    ),
    "tg": (
        "Албатта! Беҳтараш аз як қадами хурд оғоз кунед.",
        "Саволи хуб. Аввал оромона нақша тартиб диҳед.",
    ),
}


def form(text: str) -> int:
    """Which of the wordings suits a request: the first for a question, the second for anything else."""
    return int(not text.rstrip().endswith("?"))
