"""Fingerprints of traced functions: two that differ in an operation, a shape or a constant have different ones."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.extend import core


def fingerprint(traced: core.Jaxpr) -> str:
    """Computes the fingerprint of a traced function; the same in every process that traces the same code.

    Args:
      traced: the function, by `jax.make_jaxpr`.

    Returns:
      64 hexadecimal digits.

    Example:
      >>> one, two = (fingerprint(jax.make_jaxpr(lambda x, k=k: k * x)(1.0)) for k in (1.0, 2.0))
      >>> one == two
      False
    """
    digest = hashlib.sha256()
    _add(digest, traced)
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    """Adds all of a value that decides numbers; where it has no stable text, its type."""
    if isinstance(value, core.Jaxpr):
        _add_program(digest, value)
    elif isinstance(value, np.ndarray | np.generic | jax.Array):
        if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
        array = np.asarray(value)
        digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    elif isinstance(value, Mapping):
        _add(digest, sorted(value.items(), key=lambda item: str(item[0])))
    elif isinstance(value, set | frozenset):
        _add(digest, sorted(map(str, value)))
    elif isinstance(value, tuple | list):
        digest.update(b"(")
        for item in value:
            _add(digest, item)
        digest.update(b")")
    else:
        text = repr(value)
        digest.update((type(value).__name__ if re.search(r"\b0x[0-9a-f]{6,}", text) else text).encode() + b";")


def _add_program(digest: Any, program: core.Jaxpr) -> None:
    numbers: dict[Any, int] = {}
    _add(digest, list(program.consts))

    def named(atom: Any) -> Any:
        if isinstance(atom, core.Literal):
            return ("literal", str(atom.aval), atom.val)
        return (numbers.setdefault(atom, len(numbers)), str(atom.aval))

    _add(digest, [named(variable) for variable in (*program.constvars, *program.invars)])
    for equation in program.eqns:
        _add(digest, equation.primitive.name)
        _add(digest, [named(atom) for atom in equation.invars])
        _add(digest, dict(equation.params))
        _add(digest, [named(atom) for atom in equation.outvars])
    _add(digest, [named(atom) for atom in program.outvars])
