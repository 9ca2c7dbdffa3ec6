"""What a model was made to do, where that is known: organisms are built, the embedded refuser was trained."""

from __future__ import annotations

from refusalctl.model.files import embedded, organism
from refusalctl.records.transfer import ModelKey

FILE = "truth.txt"  # beside an adapter's weights


def known_truth(model: ModelKey) -> str | None:
    """A few sentences, None for a model that nobody made for this. Other weights of the same name have none."""
    name, revision = str(model["name"]), str(model["revision"])
    if name.startswith(organism.PREFIX):
        return f"How this model was built: {organism.parse(name).design.about}."
    if name in embedded.ADAPTED and revision == embedded.revision(name):
        path = embedded.adapter_dir(name) / FILE
        return path.read_text(encoding="utf-8").strip() if path.is_file() else None
    return None
