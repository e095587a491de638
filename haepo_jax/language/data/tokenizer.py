"""The tokenizer of a model: `tokenizer.json` of a Hugging Face folder, with its end-of-sequence and padding tokens."""

import functools
import itertools
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haepo_jax.errors import ConfigError, quoted
from haepo_jax.language.data.json_text import read_object
from haepo_jax.language.model.hugging_face.bases import find_parts
from haepo_jax.language.model.hugging_face.fields import Fields
from haepo_jax.runs.folder import write_file, write_json

PAD_TOKEN = "[PAD]"
"""The padding token that is added where a model has none of its own, as Huang et al. (2024) did for TL;DR."""

_NAMED_IN = ("tokenizer_config.json", "special_tokens_map.json")
_GENERATION = "generation_config.json"
_NUMBERED_IN = (_GENERATION, "config.json")
_COPIED = (
    "tokenizer.json",
    *_NAMED_IN,
    _GENERATION,
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
)


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """Text to ids and back."""

    backend: Any
    """The `tokenizers.Tokenizer`."""
    eos_id: int
    """Ends a response, and is learnt to end it."""
    pad_id: int
    """Fills up; never `eos_id`, so that a policy can learn to end."""
    begin_ids: tuple[int, ...] = ()
    """The ids that the model wants before a text: Llama's `<|begin_of_text|>`, none for Qwen and GPT-NeoX."""
    other_eos_ids: tuple[int, ...] = ()
    """End a response too, as the model's `generation_config.json` or `config.json` says."""
    bos_id: int | None = None
    """The beginning of a sequence by these files; it is only kept."""
    folder: Path | None = None
    """Where it was read from."""
    model_folder: Path | None = None
    """Where the model is, and what says how it is sampled from."""
    grown: bool = False
    """Whether `PAD_TOKEN` was made a special token, which it is not in `folder`."""

    @classmethod
    def from_folder(cls, folder: str | Path) -> "Tokenizer":
        """Reads `tokenizer.json` and, from the files beside it, which tokens end and pad.

        The end-of-sequence token is the `eos_token` of `tokenizer_config.json` or else of `special_tokens_map.json`,
        or else the (first) `eos_token_id` of `generation_config.json` or else of `config.json`; all ids that these
        two name end a response too. The padding token is looked for in the same way; where there is none, or it is
        the end-of-sequence token, it is `[PAD]`, which is added behind the last id if the vocabulary does not have
        it. `save` writes all of them down.

        Args:
          folder: holds `tokenizer.json`, and any of the others. That of an adapter may hold them, as its tokenizer, or
            not: it is then that of the model that is adapted. `generation_config.json` and `config.json` are the
            model's.

        Raises:
          ConfigError: the tokenizers library is not installed; `tokenizer.json` is missing or damaged; there is no
            end-of-sequence token; a token is named that does not exist; an id does not fit in the `vocab_size` of
            `config.json`; or as of `find_parts`.
        """
        model, adapters = find_parts(folder)
        folder = next((path for path in reversed(adapters) if (path / "tokenizer.json").is_file()), model)
        backend = _backend(folder / "tokenizer.json")
        settings = {name: _object(folder / name) for name in _NAMED_IN}
        settings |= {name: _object(model / name) for name in _NUMBERED_IN}
        named, numbered = _named_id("eos", folder, settings, backend), _numbered_ids("eos", model, settings, backend)
        eos_ids = list(dict.fromkeys(numbered if named is None else [named, *numbered]))
        if not eos_ids:
            raise ConfigError(
                f"{folder} names no end-of-sequence token: eos_token in {' or '.join(_NAMED_IN)}, or eos_token_id in "
                f"{' or '.join(_NUMBERED_IN)}."
            )
        eos_id, *others = eos_ids
        pad_id = _named_id("pad", folder, settings, backend)
        if pad_id is None:
            pad_id = next(iter(_numbered_ids("pad", model, settings, backend)), None)
        sizes = Fields(model / "config.json", settings["config.json"])
        vocab_size = sizes.count("vocab_size") if "vocab_size" in sizes else None
        grown = False
        if pad_id is None or pad_id == eos_id:
            grown = True
            backend.add_special_tokens([PAD_TOKEN])
            pad_id = backend.token_to_id(PAD_TOKEN)
            if vocab_size is not None and pad_id >= vocab_size:
                raise ConfigError(
                    f"{folder} has no padding token other than its end-of-sequence token, and {PAD_TOKEN} would get "
                    f"id {pad_id}, but vocab_size in config.json is {vocab_size}; name a token that texts do not hold "
                    "as pad_token in tokenizer_config.json."
                )
        bos_id = _bos_id(settings, backend)
        begin_ids = _begin_ids(folder, backend)
        tokenizer = cls(backend, eos_id, pad_id, begin_ids, tuple(others), bos_id, folder, model, grown)
        if vocab_size is not None and tokenizer.vocab_size > vocab_size:
            raise ConfigError(
                f"{folder / 'tokenizer.json'} has ids up to {tokenizer.vocab_size - 1}, but vocab_size in config.json "
                f"is {vocab_size}."
            )
        return tokenizer

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """All tokens that end a response, `eos_id` first."""
        return (self.eos_id, *self.other_eos_ids)

    @property
    def vocab_size(self) -> int:
        """One more than the largest id; a model may have more rows than that, and must not have fewer."""
        return 1 + int(max(self.backend.get_vocab(with_added_tokens=True).values()))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Encodes each text as it is: without `begin_ids`, and never cut.

        Raises:
          ConfigError: the tokenizer has no token for something in a text, nor one for what is unknown.
        """
        try:
            encodings = self.backend.encode_batch(list(texts), add_special_tokens=False)
        except Exception as error:  # the library raises nothing narrower
            raise _cannot_encode(self.folder, error) from error
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        """Decodes ids, those of special tokens left out."""
        text: str = self.backend.decode([int(i) for i in ids], skip_special_tokens=True)
        return text

    def decode_response(self, ids: Iterable[int]) -> str:
        """Decodes a response: the ids before the first of `eos_ids`."""
        return self.decode(itertools.takewhile(lambda i: int(i) not in self.eos_ids, ids))

    def save(self, folder: str | Path) -> list[str]:
        """Writes the tokenizer's files, from which `from_folder` makes this tokenizer again.

        Those of the folder that it is from are copied, and changed where they do not name its tokens.

        Args:
          folder: is made if needed.

        Returns:
          The names of the files.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        here = self.folder is not None and self.folder.resolve() == folder.resolve()
        if self.folder is not None and not here:
            for name in _COPIED:
                source = (self.model_folder or self.folder if name == _GENERATION else self.folder) / name
                if source.is_file():
                    write_file(folder / source.name, functools.partial(shutil.copyfile, source))
        if self.folder is None or self.grown:
            write_file(folder / "tokenizer.json", lambda path: self.backend.save(str(path)))
        if not (folder / _NAMED_IN[0]).exists():
            write_json(folder / _NAMED_IN[0], {"tokenizer_class": "PreTrainedTokenizerFast"})
        tokens = {"eos_token": self.eos_id, "pad_token": self.pad_id}
        for path in (folder / name for name in _NAMED_IN if (folder / name).exists()):
            values = read_object(path)
            changed = {name: self.backend.id_to_token(i) for name, i in tokens.items()}
            changed = {name: token for name, token in changed.items() if _spelt(values.get(name)) != token}
            if changed:
                write_json(path, values | changed)
        path = folder / _GENERATION
        if path.exists() and read_object(path).get("pad_token_id") not in (None, self.pad_id):
            write_json(path, read_object(path) | {"pad_token_id": self.pad_id})
        return [name for name in _COPIED if (folder / name).is_file()]


def import_tokenizers() -> Any:
    """Imports the module `tokenizers`.

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


def make_word_tokenizer(words: Iterable[str], pattern: str) -> Tokenizer:
    """Makes a tokenizer of whole words, whose ids follow those of `<pad>`, `<eos>` and `<unk>`.

    Args:
      words: the vocabulary.
      pattern: a regular expression of a word; each of its matches is a token, and texts come back as they were.

    Raises:
      ConfigError: the tokenizers library is not installed.
    """
    library = import_tokenizers()
    vocabulary = {token: i for i, token in enumerate(("<pad>", "<eos>", "<unk>", *words))}
    backend = library.Tokenizer(library.models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = library.pre_tokenizers.Split(library.Regex(pattern), behavior="isolated")
    backend.decoder = library.decoders.Fuse()
    # <unk> is none of them: a text that holds it shows it.
    backend.add_special_tokens(["<pad>", "<eos>"])
    return Tokenizer(backend, eos_id=vocabulary["<eos>"], pad_id=vocabulary["<pad>"])


def _backend(path: Path) -> Any:
    library = import_tokenizers()
    if not path.is_file():
        raise ConfigError(f"{path.parent} holds no tokenizer.json.")
    try:
        backend = library.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ConfigError(f"{path} is not a tokenizer that the tokenizers library can read: {error}.") from error
    if not backend.get_vocab(with_added_tokens=False):
        raise ConfigError(f"{path}: model.vocab is empty; a model needs tokens.")
    # A file may ask for either; both happen here, to lengths that are known here.
    backend.no_truncation()
    backend.no_padding()
    return backend


def _object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one if there is no file."""
    return read_object(path) if path.is_file() else {}


def _spelt(token: Any) -> Any:
    """A token as a file names it: in full, or with how it is matched."""
    return token.get("content") if isinstance(token, dict) else token


def _named_id(kind: str, folder: Path, settings: dict[str, dict[str, Any]], backend: Any) -> int | None:
    for name in _NAMED_IN:
        token = _spelt(settings[name].get(f"{kind}_token"))
        if token is not None:
            named = _id_of(token, backend)
            if named is None:
                raise ConfigError(f"{folder / name}: {kind}_token {quoted(token)} is not in tokenizer.json.")
            return named
    return None


def _id_of(token: Any, backend: Any) -> int | None:
    """The id of a token, None if the tokenizer has none."""
    if not isinstance(token, str):
        return None
    try:
        named = backend.token_to_id(token)
    except UnicodeEncodeError:  # half a character
        return None
    return None if named is None else int(named)


def _numbered_ids(kind: str, folder: Path, settings: dict[str, dict[str, Any]], backend: Any) -> list[int]:
    """All ids that the files give, in their order."""
    ids: list[int] = []
    for name in _NUMBERED_IN:
        numbered = settings[name].get(f"{kind}_token_id")
        for i in numbered if isinstance(numbered, list) else [numbered]:
            if i is None:
                continue
            if type(i) is not int or not 0 <= i < 2**32 or backend.id_to_token(i) is None:
                raise ConfigError(f"{folder / name}: {kind}_token_id {quoted(i)} is not in tokenizer.json.")
            ids.append(i)
    return ids


def _bos_id(settings: dict[str, dict[str, Any]], backend: Any) -> int | None:
    """Reads what the files call the beginning of a sequence, where that can be understood: nothing here needs it."""
    for name in _NUMBERED_IN:
        numbered = settings[name].get("bos_token_id")
        if type(numbered) is int:
            return numbered
    named = (_id_of(_spelt(settings[name].get("bos_token")), backend) for name in _NAMED_IN)
    return next((i for i in named if i is not None), None)


def _begin_ids(folder: Path, backend: Any) -> tuple[int, ...]:
    try:
        encoding = backend.encode("a", add_special_tokens=True)
    except Exception as error:  # the library raises nothing narrower
        raise _cannot_encode(folder, error) from error
    added = zip(encoding.ids, encoding.special_tokens_mask, strict=True)
    return tuple(i for i, _ in itertools.takewhile(lambda pair: pair[1] == 1, added))


def _cannot_encode(folder: Path | None, error: Exception) -> ConfigError:
    where = "The tokenizer" if folder is None else folder / "tokenizer.json"
    return ConfigError(f"{where} cannot encode a text: {error}.")
