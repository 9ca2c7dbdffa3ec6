"""The model under study, loaded when a step first needs it, with what a reader of its results should know."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refusalctl.model.chat_model import ChatModel
    from refusalctl.steps.step import Workbench


def load_model(bench: Workbench) -> ChatModel:
    """The workbench's model. Room is made before; how it pads is proved, and its precision told."""
    from refusalctl.model.files.quantisation import warning
    from refusalctl.model.load import load
    from refusalctl.model.padding import settle

    asked, dtype, ref = bench.machine, bench.resolved_dtype, bench.ref
    bench.only(None)
    bench.foresee_judges()
    with bench.progress.task(f"load {ref.name}", 1) as advance:
        model = load(
            ref,
            device=asked.device,
            dtype=dtype,
            system=asked.system,
            attention=asked.attention,
            thinking=asked.thinking,
        )
        advance()
    padding = settle(model)
    if not padding.together:
        bench.note(f"{ref.name} is run one prompt at a time: {padding.reason}")
    packed = warning(ref.name, asked.model, dtype, ref.rounded)
    if packed is not None:
        bench.note(packed)
    elif dtype != "float32":
        check = f"refusalctl doctor --precision --model {asked.model} --dtype {dtype}"
        bench.note(f"computed in {dtype}; `{check}` measures how far that is from float32")
    return model
