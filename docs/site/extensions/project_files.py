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
    """Turns downloads of code, which links to it are to MyST, into links to its page."""

    default_priority = 900

    def apply(self, **kwargs: Any) -> None:
        """Replaces them in one document."""
        for node in list(self.document.findall(addnodes.download_reference)):
            path = Path(self.env.relfn2path(node["reftarget"], self.env.docname)[0])
            if path.suffix not in _DATA:
                node.replace_self(_make_reference(self.env, path, node.children))


def link_to_folder(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.Element
) -> nodes.reference | None:
    """Resolves a link to a folder of the project, which MyST knows nothing of."""
    if node.get("reftype") != "myst":
        return None
    document = node.get("refdoc", env.docname)
    path = (Path(app.srcdir) / document).parent.joinpath(node["reftarget"]).resolve()
    if not path.is_dir() or not path.is_relative_to(app.srcdir):
        return None
    return _make_reference(env, path.relative_to(app.srcdir), [content], document)


def _make_reference(
    env: BuildEnvironment, path: Path, children: list[nodes.Node], document: str | None = None
) -> nodes.reference:
    _shown(env).add(path.as_posix())
    uri = relative_uri(f"{document or env.docname}.html", f"{PLACE}/{path.as_posix()}.html")
    return nodes.reference("", "", *(child.deepcopy() for child in children), refuri=uri, internal=True)


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
    """Registers the transform, the resolver and the pages."""
    app.add_transform(ProjectFiles)
    app.connect("missing-reference", link_to_folder)
    app.connect("html-collect-pages", make_pages)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
