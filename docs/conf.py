"""How Sphinx makes the site: `sphinx-build -W -n docs site`.

The pages are Markdown that reads well where nothing is built, so what only the site needs is added here: the tables of
contents, from the links of index.md, and links to files that are no pages.
"""

import os
import re
from importlib.metadata import metadata
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parent
ROOT = DOCS.parent

project = "elastic_hydra"
version = release = metadata("elastic-hydra")["Version"]
extensions = ["myst_parser"]
myst_heading_anchors = 4
exclude_patterns = ["_build"]
nitpicky = True
html_theme = "furo"
html_title = f"elastic_hydra {version}"

_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


def _repository() -> str:
    """Return the address of the repository as the package's metadata have it; empty when they have none."""
    urls = dict(text.split(", ", 1) for text in metadata("elastic-hydra").get_all("Project-URL") or ())
    return next((url for name, url in urls.items() if name.lower() in ("repository", "source")), "").rstrip("/")


def _add_contents(text: str) -> str:
    """Give each list of links in index.md a table of contents, which the site shows at its side."""
    for section in re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]:
        caption = section.splitlines()[0].removeprefix("## ")
        pages = "\n".join(target for _, target in _LINK.findall(section) if "://" not in target)
        text += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{pages}\n```\n"
    return text


def _lead_outside(match: re.Match[str], folder: Path) -> str:
    """Have a link to a file that is no page lead to the repository, or be the file's name where that is not known."""
    text, target = match.groups()
    path = Path(os.path.normpath(folder / target))
    if not target.startswith("..") or path.is_relative_to(DOCS):
        return match[0]
    name = path.relative_to(ROOT)
    repository = _repository()
    return f"[{text}]({repository}/blob/main/{name})" if repository else f"{text} (`{name}`)"


def _prepare(_: Sphinx, page: str, source: list[str]) -> None:
    folder = (DOCS / page).parent
    source[0] = _LINK.sub(lambda match: _lead_outside(match, folder), source[0])
    if page == "index":
        source[0] = _add_contents(source[0])


def setup(app: Sphinx) -> None:
    """Register with Sphinx."""
    app.connect("source-read", _prepare)
