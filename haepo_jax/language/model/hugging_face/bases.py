"""What a model's folder is made of: the model itself or, where it is PEFT's, the model that its adapter adapts."""

from pathlib import Path
from typing import NamedTuple

from haepo_jax.errors import ConfigError, quoted
from haepo_jax.language.data.json_text import read_object

MODEL_CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
_BASE = "base_model_name_or_path"


class Parts(NamedTuple):
    """The folders of a model."""

    model: Path
    """Holds `config.json` and all weights."""
    adapters: tuple[Path, ...] = ()
    """Hold an adapter each. The first adapts the model, each other what those before it have made of that."""


def is_model(folder: Path) -> bool:
    """Returns whether a folder says that it holds a model, or an adapter of one."""
    return (folder / MODEL_CONFIG).is_file() or (folder / ADAPTER_CONFIG).is_file()


def find_parts(folder: str | Path) -> Parts:
    """Finds the folders of a model, by the `base_model_name_or_path` of adapters.

    Args:
      folder: of a model, or of an adapter of a model or of another adapter. A base's relative path is one from the
        working directory, as for PEFT.

    Raises:
      ConfigError: a folder holds the weights of a model and an adapter, or an adapter's base is not named, is no
        folder with a model here, or is the adapter itself.
    """
    folder = Path(folder)
    adapters: list[Path] = []
    seen: set[Path] = set()
    while (folder / ADAPTER_CONFIG).is_file():
        if any(folder.glob("model*.safetensors")):
            raise ConfigError(
                f"{folder} holds the weights of a model and {ADAPTER_CONFIG}, so that it is open whether the adapter "
                "is in them already; move one of the two into a folder of its own."
            )
        seen.add(folder.resolve())
        adapters.insert(0, folder)
        folder = _find_base(folder / ADAPTER_CONFIG)
        if folder.resolve() in seen:
            raise ConfigError(f"{adapters[0] / ADAPTER_CONFIG}: {_BASE} leads back to the adapter itself.")
    return Parts(folder, tuple(adapters))


def _find_base(config: Path) -> Path:
    named = read_object(config).get(_BASE)
    if isinstance(named, str) and named:
        try:
            folder = Path(named).expanduser()
            if is_model(folder):
                return folder
        except (OSError, ValueError, RuntimeError):
            pass
    given = f"is {quoted(named)}, where no model is" if named else "names no model"
    raise ConfigError(f"{config}: {_BASE} {given}; write there the folder of the model that the adapter adapts.")
