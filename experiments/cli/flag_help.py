"""The text of `--help`: the flags of a command, and every setting of its config with type, default and meaning."""

import textwrap
from collections.abc import Mapping, Sequence

from absl import flags

from haepo_jax.config.meanings import Setting
from haepo_jax.methods.schedules import SCHEDULE, of_coefficient

_WIDTH = 118


def format_help(purpose: str, own: Sequence[flags.Flag], settings: Mapping[str, Setting]) -> str:
    """Writes the help of a command.

    Args:
      purpose: what the command is for, and how it is called.
      own: its flags.
      settings: those of its config by dotted name.
    """
    lines = [purpose.strip(), "", "Flags:", *(line for flag in own for line in _describe_flag(flag))]
    if settings:
        lines += [
            "",
            "Settings, over those of the config file; the defaults are those of a file that leaves them out:",
        ]
        schedules = [setting for setting in settings.values() if of_coefficient(setting.field)]
        scheduled = {setting.name.removesuffix(SCHEDULE) for setting in schedules}
        lines += [
            line
            for setting in settings.values()
            if setting not in schedules
            for line in _describe_setting(setting, has_schedule=setting.name in scheduled)
        ]
        if schedules:
            lines += ["", "Settings beside each X above that has a schedule, such as config.haepo.kl_coef_schedule:"]
            lines += [line for setting in schedules[:2] for line in _describe_schedule(setting)]
    return "\n".join(lines)


def _describe_flag(flag: flags.Flag) -> list[str]:
    kind = flag.parser.syntactic_help if flag.name not in ("config", "workdir") else "a path"
    choices = getattr(flag.parser, "enum_values", None)
    if choices:
        kind = f"one of {', '.join(choices)}"
    if flag.boolean:
        kind = "true or false"
    default = "" if flag.default in (None, [], "") else f"; default: {_format_default(flag.default)}"
    repeated = "; repeatable" if isinstance(flag, flags.MultiFlag) else ""
    return _wrap_entry(flag.name, flag.help or "", f"{kind or 'text'}{default}{repeated}")


def _describe_schedule(setting: Setting) -> list[str]:
    """That of any coefficient, whose name stands as X."""
    of = str(of_coefficient(setting.field))
    ending = setting.name.rpartition(".")[2].removeprefix(of)
    return _describe_setting(setting._replace(name=f"X{ending}", meaning=setting.meaning.replace(of, "X")))


def _describe_setting(setting: Setting, *, has_schedule: bool = False) -> list[str]:
    name = f"{setting.name}.NAME" if setting.is_group else setting.name
    allowed = f"{setting.allowed}; default: {_format_default(setting.default)}"
    swept = "; swept within one program" if setting.field.metadata.get("traced") else ""
    schedule = "; has a schedule" if has_schedule else ""
    return _wrap_entry(f"config.{name}", setting.meaning, f"{allowed}{swept}{schedule}")


def _format_default(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, str):
        return value or "empty"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "none" if isinstance(value, Mapping) or value == () else str(value)


def _wrap_entry(name: str, meaning: str, allowed: str) -> list[str]:
    text = f"--{name}: {meaning} ({allowed})"
    return textwrap.wrap(
        text, _WIDTH, initial_indent="  ", subsequent_indent=" " * 6, break_long_words=False, break_on_hyphens=False
    )
