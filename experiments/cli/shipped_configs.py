"""The configs that come with the package, by name: `cartpole` is `configs/cartpole.py`."""

from pathlib import Path

import haepo_jax
from haepo_jax.errors import suggestion

_PACKAGE = Path(haepo_jax.__file__).parent
_LANGUAGE = "haepo_jax.language"
"""What the configs of language models import, and no other."""


def find_config(name: str) -> Path | None:
    """Finds the file of a shipped config; None where there is none of this name.

    Args:
      name: its path within the folder of configs, without `.py`, such as `sweeps/beta_lambda`.
    """
    return _folder() / f"{name}.py" if name in list_configs() else None


def list_configs(*, of_language: bool | None = None) -> list[str]:
    """Lists the names of the shipped configs.

    Args:
      of_language: whether those of language models alone, or those of environments alone; both by default.
    """
    return sorted(
        path.relative_to(_folder()).with_suffix("").as_posix()
        for path in _folder().rglob("*.py")
        if of_language is None or (_LANGUAGE in path.read_text(encoding="utf-8")) == of_language
    )


def suggest_config(given: str) -> str:
    """Words the end of a sentence about what is no config: the shipped ones near it, else all of them."""
    return suggestion(given.removeprefix("configs/").removesuffix(".py"), list_configs())


def _folder() -> Path:
    """In an installation they lie within the package, and in a clone beside it."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"
