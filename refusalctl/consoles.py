"""Rich consoles through which nothing but text reaches a terminal, whatever is printed on them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from refusalctl.terminal import safe


class SafeConsole(Console):
    """Texts as they are (`:smile:` in a prompt or a name is no picture), but for what is no text: see `terminal`.

    Rich's own colours and cursor movements are control segments and styles, and are not touched.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(highlight=False, emoji=False, **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Every piece that is printed comes by here, cells of tables and bars included."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else safe(segment.text)
            yield segment if text is segment.text else Segment(text, segment.style)
