"""`.. setting-entries:: OBJECT`: every setting of a config class with type, range, default and meaning."""

import dataclasses
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
    """Writes the entries of a config class, or those of a function, in sections by the first part of their names.

    The argument is `package.module:Class` or `package.module:function`. The option `beside` is another such: a link to
    a setting that both have leads to the page of that one.
    """

    required_arguments = 1
    option_spec: ClassVar[dict[str, Callable[[str], Any]]] = {"beside": str}

    def run(self) -> list[nodes.Node]:
        """Returns the sections."""
        settings = _load_settings(self.arguments[0])
        elsewhere = {setting.name for setting in _load_settings(self.options.get("beside", ""))}
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
            lines += describe(setting, has_schedule=has_schedule, is_target=setting.name not in elsewhere)
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def _load_settings(name: str) -> list[Setting]:
    """The settings of the class or function of this name; of no name there are none."""
    if not name:
        return []
    module, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module), attribute)()
    return list(settings_of(found) if dataclasses.is_dataclass(found) else found)


def describe(setting: Setting, *, has_schedule: bool, is_target: bool) -> Iterator[str]:
    """Yields the lines of an entry, to which a link may lead or not."""
    default = setting.default
    default = "empty" if default in ((), "") or setting.is_group else "none" if default is None else default
    yield f".. confval:: {setting.name}{'.NAME' if setting.is_group else ''}"
    yield f"   :type: {setting.allowed}"
    yield f"   :default: ``{default}``"
    if not is_target:
        yield "   :no-index:"
    yield ""
    notes = [
        *(["Swept within one program."] if setting.is_swept else []),
        *(["It has a schedule."] if has_schedule else []),
    ]
    yield f"   {' '.join([setting.meaning, *notes])}"
    yield ""


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the directive."""
    app.add_directive("setting-entries", SettingEntries)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
