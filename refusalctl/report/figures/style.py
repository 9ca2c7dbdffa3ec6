"""How figures look and how they become bytes: Agg on objects of their own, the same bytes each time."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito (2008), without black and yellow: baseline and native have marks of their own
PALETTE = ("#0072B2", "#E69F00", "#CC79A7", "#56B4E9", "#D55E00", "#009E73")
NATIVE, BASELINE = "#009E73", "#595959"
HARMFUL, HARMLESS = "#D55E00", "#0072B2"
# a page draws these in its own light or dark colours
INK, SOFT, RULE, PAPER = "#1c1f23", "#555c66", "#e1e4e8", "#fefefe"
VARIABLES = {
    PALETTE[0]: "var(--blue)",
    PALETTE[3]: "var(--sky)",
    INK: "var(--ink)",
    SOFT: "var(--soft)",
    RULE: "var(--rule)",
    PAPER: "var(--paper)",
    BASELINE: "var(--base)",
}
STYLES = ("-", "--", "-.", ":")
_RC: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "path",
    "axes.titlesize": 9,
    "hatch.linewidth": 0.6,
    "font.family": "DejaVu Sans",
    "axes.axisbelow": True,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "legend.labelcolor": INK,
    "pdf.fonttype": 42,
}


@contextmanager
def style(**more: str) -> Iterator[None]:
    """Our settings alone: a reader's own matplotlibrc must not change a report's bytes."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC | more)
        yield


def plain(text: str) -> str:
    return text.replace("$", r"\$")  # a dollar sign would begin mathematics


def percent(value: float) -> str:
    return f"{value * 100:.0f}"


def columns(width: float, labels: list[str]) -> int:
    """How many legend columns fit: a character takes 0.066 inches, a handle with its margins 0.45."""
    return max(1, int(width / (0.45 + 0.066 * max(map(len, labels)))))


def empty(text: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    with style():
        figure = Figure(figsize=(5.4, 0.8))
        figure.text(0.5, 0.5, plain(text), ha="center", va="center", color=SOFT)
    return figure


# --- to bytes ----------------------------------------------------------------------------------------


def png(figure: Figure) -> bytes:
    """200 dpi, without the library's version in the metadata."""
    return _saved(figure, "png", {"Software": None}, dpi=200)


def pdf(figure: Figure) -> bytes:
    """Text as embedded fonts, without dates or the library's version."""
    return _saved(figure, "pdf", {"Creator": None, "Producer": None, "CreationDate": None})


def svg(figure: Figure, name: str) -> str:
    """Text drawn as paths, so that it looks the same everywhere; ids salted with the name, no date."""
    return _saved(figure, "svg", {"Date": None, "Creator": None, "Format": None, "Type": None}, salt=name).decode()


def _saved(figure: Figure, kind: str, metadata: dict[str, None], dpi: int = 150, salt: str = "") -> bytes:
    out = io.BytesIO()
    with style(**({"svg.hashsalt": salt} if salt else {})):
        FigureCanvasAgg(figure)
        figure.savefig(out, format=kind, dpi=dpi, metadata=metadata)
    return out.getvalue()


_DECIMALS = re.compile(r"(\d\.\d\d)\d+")


def inline(text: str, prefix: str, description: str) -> str:
    """An SVG file as an element of a page: short unique ids, colours of the page, described for readers who hear it.

    Width follows the page between readable limits; coordinates keep two decimals of a point.
    """
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"\s*\n\s*", " ", text)
    used = dict.fromkeys(re.findall(r'(?:xlink:href="|url\()#([^")]*)', text))
    short = {name: f"{prefix}{i}" for i, name in enumerate(used)}
    text = re.sub(r' id="([^"]*)"', lambda m: f' id="{short[m[1]]}"' if m[1] in short else "", text)
    text = re.sub(r'(xlink:href="|url\()#([^")]*)', lambda m: f"{m[1]}#{short[m[2]]}", text)
    # not scale(), which sizes the glyphs
    text = re.sub(r'( (?:d|x|y|points)="|translate\()([^")]*)', lambda m: m[1] + _DECIMALS.sub(r"\1", m[2]), text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour.lower(), variable)  # as matplotlib writes it
    text = _classed(text, prefix).replace("> <", "><")
    points = float(re.search(r'viewBox="0 0 ([\d.]+)', text)[1])  # type: ignore[index]
    pixels = points * 96 / 72
    size = f'style="max-width:{pixels * 1.15:.0f}px;min-width:{min(pixels, 330 + pixels * 0.35):.0f}px"'
    text = re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"|<svg ', lambda m: f"<svg {m[1] or ''}", text, count=1)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" {size} ', 1).strip()


def _classed(text: str, prefix: str) -> str:
    """Styles that repeat, as classes: of a page with many figures they are a tenth."""
    counts = Counter(re.findall(r' style="([^"]*)"', text))
    names = {style: f"{prefix}{i}c" for i, (style, n) in enumerate(sorted(counts.items())) if n > 1}
    rules = "".join(f".{name}{{{style}}}" for style, name in names.items())
    text = re.sub(r' style="([^"]*)"', lambda m: f' class="{names[m[1]]}"' if m[1] in names else m[0], text)
    return text.replace("</style>", f"{rules}</style>", 1)
