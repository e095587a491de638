"""A run: from its settings to its complete folder, and back.

`load_policy` is here as the way back that programs take; it is imported when it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from haepo_jax.runs.policies import load_policy

__all__ = ["load_policy"]


def __getattr__(name: str) -> Any:
    if name == "load_policy":
        from haepo_jax.runs import policies

        return policies.load_policy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
