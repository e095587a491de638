"""The text of `--help`: the flags of a command, and every setting of its config with type, default and meaning."""

import textwrap
from collections.abc import Mapping, Sequence

from absl import flags

from haepo_jax.config.meanings import Setting
from haepo_jax.methods.schedules import SCHEDULE, of_coefficient

WIDEST = 118
_SHORTEST = 30
_PATHS = {"config": "a shipped config or a path", "workdir": "a path"}


def format_help(
    purpose: str,
    own: Sequence[flags.Flag],
    settings: Mapping[str, Setting],
    configs: Sequence[str] = (),
    width: int = WIDEST,
) -> str:
    """Writes the help of a command.

    Args:
      purpose: what the command is for, and how it is called.
      own: its flags.
      settings: those of its config by dotted name.
      configs: the names of the shipped configs.
      width: columns of the terminal.
    """
    lines = [purpose.strip(), "", "Flags:", *(_describe_flag(flag) for flag in own)]
    if settings:
        lines += [
            "",
            f"Shipped configs: {', '.join(configs)}",
            "",
            "Settings, over those of the config; the defaults are those of a config that leaves them out:",
        ]
        schedules = [setting for setting in settings.values() if of_coefficient(setting.field)]
        scheduled = {setting.name.removesuffix(SCHEDULE) for setting in schedules}
        lines += [
            _describe_setting(setting, has_schedule=setting.name in scheduled)
            for setting in settings.values()
            if setting not in schedules
        ]
        if schedules:
            lines += ["", "Settings beside each X above that has a schedule, such as config.haepo.kl_coef_schedule:"]
            lines += [_describe_schedule(setting) for setting in schedules[:2]]
    return "\n".join(_wrap(line, max(min(width, WIDEST), _SHORTEST)) for line in "\n".join(lines).splitlines())


def _describe_flag(flag: flags.Flag) -> str:
    kind = _PATHS.get(flag.name, flag.parser.syntactic_help)
    choices = getattr(flag.parser, "enum_values", None)
    if choices:
        kind = f"one of {', '.join(choices)}"
    if flag.boolean:
        kind = "true or false"
    default = "" if flag.default in (None, [], "") else f"; default: {_format_default(flag.default)}"
    repeated = "; repeatable" if isinstance(flag, flags.MultiFlag) else ""
    return _entry(flag.name, flag.help or "", f"{kind or 'text'}{default}{repeated}")


def _describe_schedule(setting: Setting) -> str:
    """That of any coefficient, whose name stands as X."""
    of = str(of_coefficient(setting.field))
    ending = setting.name.rpartition(".")[2].removeprefix(of)
    return _describe_setting(setting._replace(name=f"X{ending}", meaning=setting.meaning.replace(of, "X")))


def _describe_setting(setting: Setting, *, has_schedule: bool = False) -> str:
    name = f"{setting.name}.NAME" if setting.is_group else setting.name
    allowed = f"{setting.allowed}; default: {_format_default(setting.default)}"
    swept = "; swept within one program" if setting.is_swept else ""
    schedule = "; has a schedule" if has_schedule else ""
    return _entry(f"config.{name}", setting.meaning, f"{allowed}{swept}{schedule}")


def _format_default(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, str):
        return value or "empty"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "none" if isinstance(value, Mapping) or value == () else str(value)


def _entry(name: str, meaning: str, allowed: str) -> str:
    return f"  --{name}: {meaning} ({allowed})"


def _wrap(line: str, width: int) -> str:
    """A line in lines of this width; those of commands, which are to be copied, stay as they are."""
    if "python -m" in line or line.lstrip().startswith("haepo "):
        return line
    indent = " " * (len(line) - len(line.lstrip()) + 4) if line.startswith("  ") else ""
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
