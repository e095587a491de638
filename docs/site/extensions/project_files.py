"""Links from documents to code lead to a page with that code, and those to a folder to a page that lists it.

On a git host the same links lead to the file or the folder itself.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.util.osutil import relative_uri

PLACE = "files"
"""The folder of the site that these pages are in."""
_DATA = {".json", ".gif", ".png", ".svg"}
"""What is opened as it is."""


class ProjectFiles(SphinxTransform):
    """Turns links to code, which are downloads to MyST, and those to folders, unknown to it, into links to pages."""

    default_priority = 900

    def apply(self, **kwargs: Any) -> None:
        """Replaces them in one document."""
        root = Path(self.env.srcdir).resolve()
        for node in list(self.document.findall(_may_lead_to_a_page)):
            path = Path(self.env.relfn2path(node["reftarget"], self.env.docname)[1]).resolve()
            if path.exists() and path.suffix not in _DATA:
                node.replace_self(self._make_reference(path.relative_to(root).as_posix(), node.children))

    def _make_reference(self, path: str, children: list[nodes.Node]) -> nodes.reference:
        _shown(self.env).add(path)
        uri = relative_uri(f"{self.env.docname}.html", f"{PLACE}/{path}.html")
        return nodes.reference("", "", *(child.deepcopy() for child in children), refuri=uri, internal=True)


def _may_lead_to_a_page(node: nodes.Node) -> bool:
    if isinstance(node, addnodes.pending_xref):
        return node.get("reftype") == "myst" and not node.get("refdomain") and "#" not in node["reftarget"]
    return isinstance(node, addnodes.download_reference)


def _shown(env: BuildEnvironment) -> set[str]:
    if not hasattr(env, "project_files"):
        env.project_files = set()  # type: ignore[attr-defined]
    return env.project_files  # type: ignore[attr-defined]


def make_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yields the pages of all that is linked to, and of the files of linked folders."""
    root, shown = Path(app.srcdir), _shown(app.env)
    for folder in [path for path in shown if (root / path).is_dir()]:
        names = sorted(path.name for path in (root / folder).glob("*.py"))
        shown |= {f"{folder}/{name}" for name in names}
        links = "".join(
            f'<li><a href="{Path(folder).name}/{name}.html"><code>{name}</code></a></li>' for name in names
        )
        yield f"{PLACE}/{folder}", {"title": folder, "body": f"<h1>{folder}</h1><ul>{links}</ul>"}, "page.html"
    for path in sorted(path for path in shown if (root / path).is_file()):
        text = (root / path).read_text(encoding="utf-8")
        language = {".py": "python", "": "make"}.get(Path(path).suffix, "text")
        code = app.builder.highlighter.highlight_block(text, language)  # type: ignore[attr-defined]
        body = f'<h1><code>{path}</code></h1><div class="project-file">{code}</div>'
        yield f"{PLACE}/{path}", {"title": path, "body": body}, "page.html"


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the transform and the pages."""
    app.add_transform(ProjectFiles)
    app.connect("html-collect-pages", make_pages)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
