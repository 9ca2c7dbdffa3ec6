"""The card of a dataset repository that holds artifacts: what they are, and what a reader must know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from refusalctl.file_errors import printable
from refusalctl.store.artifact import Artifact

MARK = "<!-- Written by refusalctl. Remove this line to keep your own text from being replaced. -->"
_HEAD = """\
---
pretty_name: {name}
tags:
- refusalctl
- interpretability
- refusal
{audience}viewer: false
---
{mark}

# {name}

Artifacts of [refusalctl](https://github.com/refusalctl/refusalctl), which asks whether the refusal direction of a chat
model carries over from one language to another. Each folder `<kind>/<id>/` holds a manifest, `run.json` and payload
files; the id is the SHA-256 of the manifest, which holds the SHA-256 of every file.

```
refusalctl artifacts pull hf://datasets/{repository} --all
```

Everything is verified when it arrives, nothing is unpickled, and a run goes on from it without computing it again.
"""
_WARNING = """
**Prompts and answers are part of this repository.** Prompts of kind `harmful` ask for harm, and answers written under
an intervention may give it. They are there to measure a model's behaviour; do not train on them, and do not show them
to people who have not been told.
"""


def card(repository: str, artifacts: Iterable[tuple[str, str]], known: Iterable[Artifact], *, texts: bool) -> str:
    """The text of README.md. `artifacts`: kind and id of all that is there; `known`: those whose manifests we have."""
    counts = Counter(kind for kind, _ in artifacts)
    about = [a.about for a in known]
    name = repository.partition("/")[2]
    lines = [
        _HEAD.format(
            name=name, repository=repository, mark=MARK, audience="- not-for-all-audiences\n" if texts else ""
        ),
        _WARNING if texts else "",
        "| kind | artifacts |\n|---|---|",
        *(f"| `{kind}` | {n} |" for kind, n in sorted(counts.items())),
        "",
        *(f"- {what}: {', '.join(found)}" for what, found in _told(about).items() if found),
        "",
        "Prompts keep the licence of their source; each `prompts` artifact names it in `about.data`.",
    ]
    return "\n".join(lines) + "\n"


def _told(about: list[dict[str, object]]) -> dict[str, list[str]]:
    """Models, languages and prompt sets, as the artifacts that were just sent say."""
    keys = {"Models": "model", "Languages": "lang", "Prompt sets": "data"}
    return {what: sorted({printable(str(each[key])) for each in about if each.get(key)}) for what, key in keys.items()}
