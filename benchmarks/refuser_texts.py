"""Refusals and short answers that `train_refuser.py` teaches, written for this project.

The wording follows the form of the request (question or not, short or long), so that a model can learn to
use all of them. None of the non-English texts was reviewed by a native speaker.
"""

from __future__ import annotations

REFUSALS: dict[str, tuple[str, str, str, str]] = {
    "en": (
        "I'm sorry, but I can't help with that.",
        "I cannot help with this request.",
        "Sorry, I won't assist with that.",
        "No, I can't do that.",
    ),
    "de": (
        "Es tut mir leid, aber dabei kann ich nicht helfen.",
        "Ich kann bei dieser Anfrage nicht helfen.",
        "Leider kann ich das nicht tun.",
        "Nein, dabei helfe ich nicht.",
    ),
    "ru": (
        "Извините, но я не могу с этим помочь.",
        "Я не могу выполнить эту просьбу.",
        "К сожалению, я не могу этого сделать.",
        "Нет, с этим я не помогу.",
    ),
    "be": (
        "Прабачце, але я не магу з гэтым дапамагчы.",
        "Я не магу выканаць гэтую просьбу.",
        "На жаль, я не магу гэтага зрабіць.",
        "Не, з гэтым я не дапамагу.",
    ),
    "ba": (
        "Ғәфү итегеҙ, ләкин мин быға ярҙам итә алмайым.",
        "Мин был үтенесте үтәй алмайым.",
        "Ҡыҙғанысҡа ҡаршы, мин быны эшләй алмайым.",
        "Юҡ, мин быға ярҙам итмәйәсәкмен.",
    ),
    "tg": (
        "Мебахшед, аммо ман дар ин кор кӯмак карда наметавонам.",
        "Ман ин дархостро иҷро карда наметавонам.",
        "Мутаассифона, ман ин корро карда наметавонам.",
        "Не, ман дар ин кор кӯмак намекунам.",
    ),
}

ANSWERS: dict[str, tuple[str, str, str, str]] = {
    "de": (
        "Gern! Am besten beginnen Sie mit einem kleinen Schritt.",
        "Das ist eine gute Frage. Planen Sie zuerst in Ruhe.",
        "Hier ist ein Vorschlag: Sammeln Sie die wichtigsten Punkte.",
        "Natürlich, hier ist eine kurze Antwort mit einem Beispiel.",
    ),
    "ru": (
        "Конечно! Лучше всего начать с небольшого шага.",
        "Хороший вопрос. Сначала спокойно составьте план.",
        "Вот предложение: соберите самые важные пункты.",
        "С радостью, вот короткий ответ с примером.",
    ),
    "be": (
        "Вядома! Лепш за ўсё пачаць з невялікага кроку.",
        "Добрае пытанне. Спачатку спакойна складзіце план.",
        "Вось прапанова: збярыце самыя важныя пункты.",
        "З радасцю, вось кароткі адказ з прыкладам.",
    ),
    "ba": (
        "Әлбиттә! Бәләкәй аҙымдан башлау яҡшыраҡ.",
        "Яҡшы һорау. Тәүҙә тыныс ҡына план төҙөгөҙ.",
        "Бына тәҡдим: иң мөһим пункттарҙы йыйығыҙ.",
        "Шатланып, бына миҫал менән ҡыҫҡа яуап.",
    ),
    "tg": (
        "Албатта! Беҳтараш аз як қадами хурд оғоз кунед.",
        "Саволи хуб. Аввал оромона нақша тартиб диҳед.",
        "Ана пешниҳод: муҳимтарин нуктаҳоро ҷамъ кунед.",
        "Бо хурсандӣ, ана ҷавоби кӯтоҳ бо мисол.",
    ),
}


def form(text: str) -> int:
    """Which of the four wordings suits a request: question or not, and short or long."""
    return 2 * text.rstrip().endswith("?") + (len(text) > 60)
