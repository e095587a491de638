"""What `--help` prints: the flags of a command, and every setting of its config with type, default, range and meaning."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from absl import flags

from haepo_jax.config_meanings import Setting

_WIDTH = 118


def help_text(purpose: str, own: Sequence[flags.Flag], settings: Mapping[str, Setting]) -> str:
    """Writes the help of a command.

    Args:
      purpose: what the command is for, and how it is called.
      own: its flags.
      settings: those of its config by dotted name.
    """
    lines = [purpose.strip(), "", "Flags:", *(line for flag in own for line in _of_flag(flag))]
    if settings:
        lines += ["", "Settings, over those of the config file; the defaults are those of a file that leaves them out:"]
        lines += [line for setting in settings.values() for line in _of_setting(setting)]
    return "\n".join(lines)


def _of_flag(flag: flags.Flag) -> Iterator[str]:
    kind = flag.parser.syntactic_help if flag.name not in ("config", "workdir") else "a path"
    choices = getattr(flag.parser, "enum_values", None)
    if choices:
        kind = f"one of {', '.join(choices)}"
    if flag.boolean:
        kind = "true or false"
    default = "" if flag.default in (None, [], "") else f"; default: {_shown(flag.default)}"
    repeated = "; repeatable" if isinstance(flag, flags.MultiFlag) else ""
    yield f"  --{flag.name}  ({kind or 'text'}{default}{repeated})"
    yield from _below(flag.help or "")


def _of_setting(setting: Setting) -> Iterator[str]:
    name = f"{setting.name}.NAME" if setting.is_group else setting.name
    allowed = f"{setting.allowed}; default: {_shown(setting.default)}"
    swept = "; swept within one program" if setting.field.metadata.get("traced") else ""
    yield f"  --config.{name}  ({allowed}{swept})"
    yield from _below(setting.meaning)


def _shown(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, str):
        return value or "empty"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "none" if isinstance(value, Mapping) or value == () else str(value)


def _below(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
