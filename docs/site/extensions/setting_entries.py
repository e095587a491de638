"""`.. setting-entries:: CLASS PREFIX`: every setting of a config class with type, range, default and meaning."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from haepo_jax.config.meanings import Setting, settings_of
from haepo_jax.methods.schedules import SCHEDULE, of_coefficient

_log = logging.getLogger(__name__)


class SettingEntries(SphinxDirective):
    """Writes the entries of a config class, `package.module:Class`, in sections by the first part of their names."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Callable[[str], Any]]] = {"prefix": str}

    def run(self) -> list[nodes.Node]:
        """Returns the sections."""
        module, _, name = self.arguments[0].partition(":")
        settings = list(settings_of(getattr(importlib.import_module(module), name)()))
        schedules = {setting.name for setting in settings if of_coefficient(setting.field)}
        lines, section = [], None
        for setting in settings:
            if setting.name in schedules:
                continue  # said once, in words, on the page
            if not setting.meaning:
                _log.warning("The setting %s has no meaning.", setting.name, location=self.get_location())
            first = setting.name.rpartition(".")[0].partition(".")[0]
            if first != section:
                section = first
                title = f"``{section}``" if section else "The run"
                lines += [title, "-" * len(title), ""]
            has_schedule = f"{setting.name}{SCHEDULE}" in schedules
            lines += describe(setting, self.options.get("prefix", ""), has_schedule=has_schedule)
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def describe(setting: Setting, prefix: str, *, has_schedule: bool) -> Iterator[str]:
    """Yields the lines of an entry."""
    default = setting.default
    default = "empty" if default in ((), "") or setting.is_group else "none" if default is None else default
    yield f".. confval:: {prefix}{setting.name}{'.NAME' if setting.is_group else ''}"
    yield f"   :type: {setting.allowed}"
    yield f"   :default: ``{default}``"
    yield ""
    notes = [
        *(["Swept within one program."] if setting.field.metadata.get("traced") else []),
        *(["It has a schedule."] if has_schedule else []),
    ]
    yield f"   {' '.join([setting.meaning, *notes])}"
    yield ""


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the directive."""
    app.add_directive("setting-entries", SettingEntries)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
