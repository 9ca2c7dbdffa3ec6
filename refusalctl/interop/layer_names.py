"""What other tools call the stream that enters a block, and by how much their layers differ from ours.

Ours: layer L is the stream that enters block L, counted from 0. A tool that writes to a block's *output* means the
stream that enters the next one: its block L - 1 is our layer L, so that what enters the first block has no name there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from refusalctl.errors import BadInput, DataError


class Convention(NamedTuple):
    """How a tool names the stream at a layer. `shift`: our layer minus its number; `first`: its smallest number."""

    format: str
    prefix: str
    suffix: str
    shift: int
    first: int
    acts: str  # what its own code does there, in words

    def name(self, layer: int) -> str:
        """The tensor's name for our `layer`. Raises `BadInput` where the tool has none."""
        number = layer - self.shift
        if number < self.first:
            least = self.first + self.shift
            raise BadInput(
                f"{self.format} cannot say 'the stream that enters block {layer}': it {self.acts}, "
                f"so the first is the stream that enters block {least}",
                hint="export as safetensors or transformer-lens, which name every layer",
            )
        return f"{self.prefix}{number}{self.suffix}"


SAFETENSORS = Convention("safetensors", "resid_pre.", "", 0, 0, "names the stream that enters a block")
TRANSFORMER_LENS = Convention("transformer-lens", "blocks.", ".hook_resid_pre", 0, 0, "names every layer")
NNTERP = Convention("nnterp", "layers_input.", "", 0, 0, "names every layer")
# steering_vectors/steering_vector.py 0.12.2: a forward hook, which adds to the output of the matching block
STEERING = Convention("steering-vectors", "layer_activations.", "", 1, 0, "adds to a block's output")
# llama.cpp src/llama-adapter.cpp, common/common.cpp: direction.N is added to block N's output, direction.0 is refused
GGUF = Convention("gguf", "direction.", "", 1, 1, "adds to a block's output from block 1 on")

WRITTEN = {each.format: each for each in (SAFETENSORS, TRANSFORMER_LENS, NNTERP, STEERING, GGUF)}
_OUTPUTS = (
    Convention("transformer-lens", "blocks.", ".hook_resid_post", 1, 0, "names every layer"),
    Convention("nnterp", "layers_output.", "", 1, 0, "names every layer"),
)
_READ = (*WRITTEN.values(), *_OUTPUTS)


def layer_of(name: str) -> tuple[Convention, int] | None:
    """The convention and our layer of a tensor's name, None for a name that none of them has."""
    for each in _READ:
        found = re.fullmatch(rf"{re.escape(each.prefix)}(\d{{1,4}}){re.escape(each.suffix)}", name)
        if found is not None and int(found[1]) >= each.first:
            return each, int(found[1]) + each.shift
    return None


def layers_of(names: Iterable[str], where: str) -> tuple[str, dict[int, str]]:
    """The one format of a file's tensor names, and the name by our layer. Raises `DataError` for names of no known
    convention, of two, or of two for one stream."""
    found: dict[int, str] = {}
    formats = set()
    for name in sorted(names):
        known = layer_of(name)
        if known is None:
            raise DataError(
                f"{where} holds a tensor whose name says no layer that is known here",
                hint="expected names such as " + ", ".join(each.name(13) for each in _READ),
            )
        convention, layer = known
        if layer in found:
            raise DataError(f"{where} names the stream that enters block {layer} twice")
        formats.add(convention.format)
        found[layer] = name
    if len(formats) != 1:
        listed = " and ".join(sorted(formats)) or "none"
        raise DataError(f"{where} should hold directions as one tool names them, found {listed}")
    return formats.pop(), found
