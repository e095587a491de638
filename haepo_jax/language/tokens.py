"""The tokenizer of a model: `tokenizer.json` of a Hugging Face folder, with its end-of-sequence and padding tokens."""

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haepo_jax.errors import ConfigError

PAD_TOKEN = "[PAD]"
"""The padding token that is added where a model has none of its own, as Huang et al. (2024) did for TL;DR."""

_NAMED_IN = ("tokenizer_config.json", "special_tokens_map.json")
_NUMBERED_IN = ("generation_config.json", "config.json")


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """Text to ids and back."""

    backend: Any
    """The `tokenizers.Tokenizer`."""
    eos_id: int
    """Ends a response."""
    pad_id: int
    """Fills up; never `eos_id`, so that a policy can learn to end."""
    begin_ids: tuple[int, ...] = ()
    """What the model wants before a text: the id of Llama's `<|begin_of_text|>`, nothing for Qwen and GPT-NeoX."""

    @classmethod
    def from_folder(cls, folder: str | Path) -> "Tokenizer":
        """Reads `tokenizer.json` and, from the files beside it, which tokens end and pad.

        The end-of-sequence token is the `eos_token` of `tokenizer_config.json` or else of `special_tokens_map.json`,
        or else the (first) `eos_token_id` of `generation_config.json` or else of `config.json`. The padding token is
        looked for in the same way; where there is none, or it is the end-of-sequence token, it is `[PAD]`, which is
        added behind the last id if the vocabulary does not have it. `save` writes both down.

        Args:
          folder: holds `tokenizer.json`, and any of the others.

        Raises:
          ConfigError: the tokenizers library is not installed; `tokenizer.json` is missing or damaged; there is no
            end-of-sequence token; a token is named that does not exist; or an id does not fit in the `vocab_size` of
            `config.json`.
        """
        folder = Path(folder)
        backend = _backend(folder / "tokenizer.json")
        settings = {name: _object(folder / name) for name in (*_NAMED_IN, *_NUMBERED_IN)}
        eos_id = _special_id("eos", folder, settings, backend)
        if eos_id is None:
            raise ConfigError(
                f"{folder} names no end-of-sequence token: eos_token in {' or '.join(_NAMED_IN)}, or eos_token_id in "
                f"{' or '.join(_NUMBERED_IN)}."
            )
        pad_id = _special_id("pad", folder, settings, backend)
        vocab_size = settings["config.json"].get("vocab_size")
        if pad_id is None or pad_id == eos_id:
            backend.add_special_tokens([PAD_TOKEN])
            pad_id = backend.token_to_id(PAD_TOKEN)
            if vocab_size is not None and pad_id >= vocab_size:
                raise ConfigError(
                    f"{folder} has no padding token other than its end-of-sequence token, and {PAD_TOKEN} would get "
                    f"id {pad_id}, but vocab_size in config.json is {vocab_size}; name a token that texts do not hold "
                    "as pad_token in tokenizer_config.json."
                )
        tokenizer = cls(backend, eos_id, pad_id, _begin_ids(backend))
        if vocab_size is not None and tokenizer.vocab_size > vocab_size:
            raise ConfigError(
                f"{folder / 'tokenizer.json'} has ids up to {tokenizer.vocab_size - 1}, but vocab_size in config.json "
                f"is {vocab_size}."
            )
        return tokenizer

    @property
    def vocab_size(self) -> int:
        """One more than the largest id; a model may have more rows than that, and must not have fewer."""
        return 1 + int(max(self.backend.get_vocab(with_added_tokens=True).values()))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text as it is: without `begin_ids`, and never cut."""
        return [encoding.ids for encoding in self.backend.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, those of special tokens left out."""
        text: str = self.backend.decode([int(i) for i in ids], skip_special_tokens=True)
        return text

    def decode_response(self, ids: Iterable[int]) -> str:
        """The text of a response: of the ids before the first `eos_id`."""
        return self.decode(itertools.takewhile(lambda i: int(i) != self.eos_id, ids))

    def save(self, folder: str | Path) -> None:
        """Writes `tokenizer.json` and `tokenizer_config.json`, from which `from_folder` makes this tokenizer again."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.backend.save(str(folder / "tokenizer.json"))
        names = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": self.backend.id_to_token(self.eos_id),
            "pad_token": self.backend.id_to_token(self.pad_id),
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(names, indent=2) + "\n")


def tokenizers_library() -> Any:
    """The module `tokenizers`.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Language models need the tokenizers library; install it with pip install 'haepo_jax[language]'."
        ) from error
    return tokenizers


def _backend(path: Path) -> Any:
    library = tokenizers_library()
    if not path.is_file():
        raise ConfigError(f"{path.parent} holds no tokenizer.json.")
    try:
        backend = library.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ConfigError(f"{path} is not a tokenizer that the tokenizers library can read: {error}.") from error
    # A file may ask for either; both happen here, to lengths that are known here.
    backend.no_truncation()
    backend.no_padding()
    return backend


def _object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one if there is no file."""
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} does not hold a JSON object.")
    return values


def _special_id(kind: str, folder: Path, settings: dict[str, dict[str, Any]], backend: Any) -> int | None:
    for name in _NAMED_IN:
        token = settings[name].get(f"{kind}_token")
        if isinstance(token, dict):
            token = token.get("content")
        if token is not None:
            named = backend.token_to_id(token) if isinstance(token, str) else None
            if named is None:
                raise ConfigError(f"{folder / name}: {kind}_token {token!r} is not in tokenizer.json.")
            return int(named)
    for name in _NUMBERED_IN:
        numbered = settings[name].get(f"{kind}_token_id")
        if isinstance(numbered, list):
            numbered = numbered[0] if numbered else None
        if numbered is not None:
            if type(numbered) is not int or numbered < 0 or backend.id_to_token(numbered) is None:
                raise ConfigError(f"{folder / name}: {kind}_token_id {numbered!r} is not in tokenizer.json.")
            return numbered
    return None


def _begin_ids(backend: Any) -> tuple[int, ...]:
    encoding = backend.encode("a", add_special_tokens=True)
    added = zip(encoding.ids, encoding.special_tokens_mask, strict=True)
    return tuple(i for i, _ in itertools.takewhile(lambda pair: pair[1] == 1, added))
