"""Chat templates: how a model wants the messages of a conversation written as one text.

A template is a program of a model's author, in the language Jinja. It runs in Jinja's sandbox, in which it reaches
nothing but the messages, as transformers runs it.
"""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haepo_jax.errors import ConfigError, first_line, message_of, quoted
from haepo_jax.language.data.json_text import read_object
from haepo_jax.language.data.rows import KINDS

_SETTINGS, _SPECIAL, _OWN_FILE = "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"
_TODAY = datetime.datetime(2024, 7, 26)
"""What templates that write the date get. It stands still, so that a run that resumes has the prompts that it began
with; it is the day that Llama 3's templates write where they get none."""
_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


class _RaisedByTemplate(Exception):
    """What a template refuses by `raise_exception`."""


@dataclass(frozen=True, eq=False)
class ChatTemplate:
    """The chat template of a model."""

    source: Path
    """The file that it is from."""
    template: Any
    """The `jinja2.Template`."""
    tokens: Mapping[str, str]
    """Special tokens by the names that a template knows them by, such as `bos_token`."""

    @classmethod
    def from_folder(cls, folder: str | Path) -> "ChatTemplate":
        """Reads `chat_template.jinja`, or else the `chat_template` of `tokenizer_config.json`, the default of several.

        Special tokens are those of `tokenizer_config.json`, or else of `special_tokens_map.json`.

        Raises:
          ConfigError: the model has no template, it is no Jinja, or the jinja2 library is not installed.
        """
        folder = Path(folder)
        settings, special = (
            read_object(folder / name) if (folder / name).is_file() else {} for name in (_SETTINGS, _SPECIAL)
        )
        own, source = folder / _OWN_FILE, folder / _SETTINGS
        given = settings.get("chat_template")
        if own.is_file():
            source = own
            try:
                given = own.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"{own} cannot be read: {error}.") from error
        if isinstance(given, list):  # several, each with its name
            by_name = {one.get("name"): one.get("template") for one in given if isinstance(one, Mapping)}
            given = by_name.get("default")
        if not isinstance(given, str):
            raise ConfigError(
                f"{folder} has no chat template, which rows of messages are written by: it is {_OWN_FILE}, or "
                f"chat_template in {_SETTINGS}; models without one take prompts as text."
            )
        named = {name: _spelt(settings.get(name)) or _spelt(special.get(name)) for name in _TOKENS}
        tokens = {name: token for name, token in named.items() if isinstance(token, str)}
        return cls(source, _compile(source, given), tokens)

    def render(self, messages: Sequence[Mapping[str, Any]], *, where: str, for_answer: bool = True) -> str:
        """Writes messages as one text.

        Args:
          messages: objects with a `role` and mostly a `content`.
          where: the row that they are of, for the sentence of an error.
          for_answer: whether the text ends where an answer of the assistant begins.

        Raises:
          ConfigError: the template refuses them, or fails.
        """
        try:
            text: str = self.template.render(
                messages=list(messages), tools=None, documents=None, add_generation_prompt=for_answer, **self.tokens
            )
        except Exception as error:  # a template may do anything, and the library raises many kinds
            verb = "refuses the messages" if isinstance(error, _RaisedByTemplate) else "fails"
            reason = " ".join(message_of(error).split())[:300].rstrip(".") or type(error).__name__
            raise ConfigError(f"{where}: the chat template of {self.source} {verb}: {reason}.") from error
        return text


def check_messages(value: Any, where: str, column: str) -> list[dict[str, Any]]:
    """Checks the messages of a row; fields of them that are null, as parquet fills up with, are left out.

    Raises:
      ConfigError: it is no list of objects with a role, or an empty one; file, line and column are named.
    """
    if not isinstance(value, list) or not value:
        given = "an empty list" if value == [] else KINDS.get(type(value), f"a value of type {type(value).__name__}")
        raise ConfigError(f"{where}: field {column} is {given}, not text or a list of messages.")
    for number, message in enumerate(value):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ConfigError(
                f"{where}: field {column}[{number}] is {quoted(message, 60)}, not a message: an object with a role "
                "and a content."
            )
    return [{name: item for name, item in message.items() if item is not None} for message in value]


def _spelt(token: Any) -> Any:
    return token.get("content") if isinstance(token, Mapping) else token


def _compile(source: Path, text: str) -> Any:
    try:
        import jinja2
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Rows of messages need the jinja2 library; install it with pip install 'haepo_jax[language]'."
        ) from error
    # As transformers makes it, so that templates written for that give the same text, but for the date.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _make_generation_tag()]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _TODAY.strftime
    try:
        return environment.from_string(text)
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(
            f"{source}: the chat template is no Jinja at line {error.lineno}: {first_line(error)}."
        ) from error
    except Exception as error:  # nested too deep, a number of too many digits, a loop's tag outside of loops
        raise ConfigError(f"{source}: the chat template cannot be compiled: {first_line(error)}.") from error


def _make_generation_tag() -> Any:
    """Makes the tag `{% generation %}`, by which templates mark the answers: what stands in it is written as it is."""
    from jinja2 import nodes
    from jinja2.ext import Extension

    class GenerationTag(Extension):
        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    return GenerationTag


def _to_json(value: Any, indent: int | None = None, separators: Any = None, sort_keys: bool = False) -> str:
    """The filter `tojson`, which unlike Jinja's own escapes no markup."""
    return json.dumps(value, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise _RaisedByTemplate(message)
