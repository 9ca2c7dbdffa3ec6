"""The documentation as a site: `make docs`. Its pages are the Markdown files of the repository, which GitHub shows too.

Sphinx reads from the repository's root, so that links between pages are the same there and here. The navigation is what
`docs/index.md` lists: a caption per section, a page per row.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

from refusalctl.version import __version__

project, author, copyright = "refusalctl", "the refusalctl authors", "the refusalctl authors. Apache-2.0"
version = release = __version__
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = [
    "docs/**.md", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md", "benchmarks/README.md",
    "PolyRefuse/README.md", "artifacts/README.md", "refusalctl/model/files/adapters/*/README.md",
]  # fmt: skip
exclude_patterns = [".*", "build", "dist", "artifacts/[!R]*", "PolyRefuse/[!R]*", "tests", "**/__pycache__"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_title_to_header = False
suppress_warnings = ["misc.highlighting_failure"]  # output of a terminal under the name of a shell
nitpicky = True

html_theme = "furo"
html_title = f"refusalctl {release}"
html_baseurl = ""
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"
html_extra_path = ["../llms.txt"]
html_static_path = ["static"]
html_css_files = ["site.css"]

LINK = re.compile(r"\]\(([\w./-]+\.md)\)")


def navigation(index: str) -> str:
    """A hidden toctree for each section of the index, of the pages that its table links to first in a row."""
    found = []
    for section in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        caption = section.splitlines()[0].strip()
        rows = (LINK.search(line) for line in section.splitlines() if line.startswith("| ["))
        pages = [page.removesuffix(".md") for row in rows if row for page in row.groups()]
        entries = "\n".join(f"/{page[3:]}" if page.startswith("../") else page for page in pages)
        found.append(f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```\n")
    return "\n".join(found)


def read(_app: Any, page: str, source: list[str]) -> None:
    if page == root_doc:
        source[0] += "\n" + navigation(source[0])


def math(writer: Any, node: Any) -> None:
    """MathML, which browsers draw themselves: no script, nothing from elsewhere. Wide ones scroll, by keyboard too."""
    block = isinstance(node, nodes.math_block)
    made = tex2mathml(node.astext(), as_block=block)
    writer.body.append(f'<div class="formula" tabindex="0">{made}</div>' if block else made)
    raise nodes.SkipNode


def levelled(_app: Any, _page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    """Captions of the navigation are headings to a screen reader, and have to say of which level."""
    tree = context.get("furo_navigation_tree")
    if tree:
        context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')


def finish(app: Any, error: Exception | None) -> None:
    """The way in, and each page's Markdown beside it, which `llms.txt` links to."""
    if error or app.builder.format != "html":
        return
    out = Path(app.outdir)
    (out / "index.html").write_text(
        '<!doctype html><meta charset="utf-8"><title>refusalctl</title>'
        f'<meta http-equiv="refresh" content="0; url={root_doc}.html"><a href="{root_doc}.html">refusalctl</a>\n'
    )
    for page in app.env.found_docs:
        shutil.copyfile(ROOT / f"{page}.md", out / f"{page}.md")


def setup(app: Any) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (math, None), (math, None))
    app.connect("source-read", read)
    app.connect("html-page-context", levelled, priority=900)  # after the theme has made it
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True}
