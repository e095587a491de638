"""Policies and value functions: a torso, then a head of ours that ends in a distrax distribution or in a value.

This is the only part of the package that knows distrax. A torso is a Flax module that maps observations
`[..., *observation_shape]` to features `[..., F]`, whatever axes lead; `mlp` and `cnn` are here, others come from
outside.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import distrax
import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from haepo_jax import components
from haepo_jax.config import PolicyConfig
from haepo_jax.environments.interface import ActionSpace, Discrete, MultiDiscrete
from haepo_jax.errors import ConfigError, quoted
from haepo_jax.types import Params

HEAD = "head"
"""The name of the layer after a torso, unless that has an attribute `head_name`."""
Activation = Callable[[jax.Array], jax.Array]
MakeTorso = Callable[[], nn.Module]

_LEADING = ((), (2,), (2, 3))
"""Axes with which a torso is tried: an observation alone, a batch, a batch over time."""


class Policy(NamedTuple):
    """A policy as pure functions."""

    init: Callable[[jax.Array], Params]
    """`key -> params`."""
    apply: Callable[[Params, jax.Array], distrax.Distribution]
    """`(params, observations [..., *O]) -> distribution over actions` with batch shape `[...]`."""
    noise: Callable[[jax.Array, tuple[int, ...]], jax.Array]
    """`(key, batch shape) -> noise`, all that chance has in one action for each of the batch."""
    act: Callable[[distrax.Distribution, jax.Array], jax.Array]
    """`(distribution, noise) -> actions`."""


class Value(NamedTuple):
    """A value function as two pure functions."""

    init: Callable[[jax.Array], Params]
    """`key -> params`."""
    apply: Callable[[Params, jax.Array], jax.Array]
    """`(params, observations [..., *O]) -> values [...]`."""


class MLP(nn.Module):
    """Multilayer perceptron with orthogonal weights, for observations of any shape, which it flattens."""

    observation_shape: tuple[int, ...]
    hidden_sizes: Sequence[int]
    activation: Activation

    @property
    def head_name(self) -> str:
        """The name of the layer after it: the next one, where checkpoints have had it before there were torsos."""
        return f"Dense_{len(self.hidden_sizes)}"

    @nn.compact
    def __call__(self, observations: jax.Array) -> jax.Array:
        """Maps `[..., *observation_shape]` to `[..., hidden_sizes[-1]]`."""
        x = _flat(observations, len(self.observation_shape))
        for size in self.hidden_sizes:
            x = self.activation(nn.Dense(size, kernel_init=nn.initializers.orthogonal(2**0.5))(x))
        return x


class CNN(nn.Module):
    """One convolution and one dense layer, for small images `(H, W, C)` and grids `(H, W)`.

    The sizes are those of Young & Tian (2019), "MinAtar". Cells beyond the border count as 0, so that the image keeps
    its size. The convolution is one product of matrices: under `vmap` over members with weights of their own a
    grouped convolution takes 1.5 to 1.7 times as long (CPU, 8 members x 128 images of 10 x 10 x 4).
    """

    observation_shape: tuple[int, ...]
    activation: Activation
    channels: int = 16
    """Filters of the convolution."""
    kernel_size: int = 3
    """Side of a filter, in cells."""
    dense_size: int = 128
    """Width of the dense layer, and so of the features."""

    @nn.compact
    def __call__(self, observations: jax.Array) -> jax.Array:
        """Maps `[..., H, W, C]` or `[..., H, W]` to `[..., dense_size]`."""
        if len(self.observation_shape) not in (2, 3):
            raise ConfigError(
                "config.policy.network cnn takes observations of shape (height, width) or (height, width, channels), "
                f"and these have shape {self.observation_shape}; take mlp."
            )
        for name in ("channels", "kernel_size", "dense_size"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ConfigError(
                    f"config.policy.network_kwargs.{name} of cnn must be a whole number of at least 1, got "
                    f"{quoted(value)}."
                )
        images = observations if len(self.observation_shape) == 3 else observations[..., None]
        x = self._dense(self.channels)(_windows(images, self.kernel_size))
        x = _flat(self.activation(x), 3)
        return self.activation(self._dense(self.dense_size)(x))

    def _dense(self, size: int) -> nn.Dense:
        return nn.Dense(size, kernel_init=nn.initializers.orthogonal(2**0.5))


TORSOS: Mapping[str, Callable[..., nn.Module]] = {"mlp": MLP, "cnn": CNN}
"""The torsos that a config can name in a word."""


def _flat(array: jax.Array, axes: int) -> jax.Array:
    """The last so many axes as one."""
    return array.reshape(*array.shape[: array.ndim - axes], -1)


def _windows(images: jax.Array, size: int) -> jax.Array:
    """Collects around each cell of `[..., H, W, C]` its size x size cells: `[..., H, W, size * size * C]`."""
    height, width = images.shape[-3:-1]
    border = ((size - 1) // 2, size // 2)
    padded = jnp.pad(images, [(0, 0)] * (images.ndim - 3) + [border, border, (0, 0)])
    shifted = [padded[..., i : i + height, j : j + width, :] for i in range(size) for j in range(size)]
    return jnp.concatenate(shifted, axis=-1)


class _Network(nn.Module):
    """A torso and a linear layer after it, which lie side by side among the parameters."""

    make_torso: MakeTorso
    output_size: int
    output_scale: float
    """Of the last layer's weights. Near-zero outputs make a first policy near uniform (or centred)."""

    def setup(self) -> None:
        """Makes the torso."""
        self.torso = self.make_torso()
        nn.share_scope(self, self.torso)

    @nn.compact
    def __call__(self, observations: jax.Array) -> jax.Array:
        """Maps `[..., *observation_shape]` to `[..., output_size]`."""
        features = self.torso(observations)
        name = getattr(self.torso, "head_name", HEAD)
        head = nn.Dense(self.output_size, kernel_init=nn.initializers.orthogonal(self.output_scale), name=name)
        return head(features)


class CategoricalPolicy(nn.Module):
    """Discrete actions: softmax over the outputs of a network."""

    make_torso: MakeTorso
    name_of_torso: str
    num_actions: int

    @nn.compact
    def __call__(self, observations: jax.Array, mask: jax.Array | None = None) -> distrax.Distribution:
        """The distribution over actions at `observations [..., *O]`, of those that `mask [..., n]` allows."""
        logits = _Network(self.make_torso, self.num_actions, 0.01, name=self.name_of_torso)(observations)
        return distrax.Categorical(logits=logits if mask is None else mask_logits(logits, mask))


class MultiCategoricalPolicy(nn.Module):
    """Several choices at once: independent categoricals, their logits side by side in the output of one network."""

    make_torso: MakeTorso
    name_of_torso: str
    nvec: tuple[int, ...]

    @nn.compact
    def __call__(self, observations: jax.Array, mask: jax.Array | None = None) -> distrax.Distribution:
        """The distribution over actions `[..., A]` at `observations [..., *O]`.

        Args:
          observations: `[..., *O]`.
          mask: `[..., sum(nvec)]` boolean, the choices that are allowed, one choice after the other; all when None.
        """
        outputs = _Network(self.make_torso, sum(self.nvec), 0.01, name=self.name_of_torso)(observations)
        # In rows of one length, which is that of the longest: what is beyond a shorter one is masked.
        places, is_there = _rows_of(self.nvec)
        allowed = is_there if mask is None else is_there & mask[..., places]
        return distrax.Independent(distrax.Categorical(logits=mask_logits(outputs[..., places], allowed, is_there)), 1)


def _rows_of(nvec: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Where the logits of each choice lie among all, and which of these places are its own, both `[A, max(nvec)]`."""
    ends = np.cumsum(nvec)
    within = np.arange(max(nvec))
    is_there = within < np.array(nvec)[:, None]
    return np.where(is_there, (ends - nvec)[:, None] + within, 0), is_there


def mask_logits(logits: jax.Array, mask: ArrayLike, otherwise: ArrayLike = True) -> jax.Array:
    """Takes all probability from choices that are not allowed; their logits get no gradient.

    Args:
      logits: `[..., n]`.
      mask: `[..., n]` boolean, the choices that are allowed.
      otherwise: `[..., n]` boolean, those where no choice is allowed, as after the end of an episode, so that nothing
        there is infinite.

    Returns:
      `[..., n]`: where a choice is not allowed, a number so low that its probability is 0, and yet finite.

    Example:
      >>> logits = mask_logits(jnp.zeros(3), jnp.array([True, False, True]))
      >>> jax.nn.softmax(logits).tolist()
      [0.5, 0.0, 0.5]
    """
    allowed = jnp.where(jnp.any(mask, axis=-1, keepdims=True), mask, otherwise)
    return jnp.where(allowed, logits, jnp.finfo(logits.dtype).min / 2)


class GaussianPolicy(nn.Module):
    """Real actions: a diagonal Gaussian, its mean from a network and its deviation free of the observation."""

    make_torso: MakeTorso
    name_of_torso: str
    action_size: int
    initial_log_std: float

    @nn.compact
    def __call__(self, observations: jax.Array) -> distrax.Distribution:
        """The distribution over actions at `observations [..., *O]`."""
        mean = _Network(self.make_torso, self.action_size, 0.01, name=self.name_of_torso)(observations)
        log_std = self.param("log_std", nn.initializers.constant(self.initial_log_std), (self.action_size,))
        std = jnp.broadcast_to(jnp.exp(log_std).reshape((1,) * (mean.ndim - 1) + (-1,)), mean.shape)
        return distrax.MultivariateNormalDiag(mean, std)


_KIND = "the class of a flax.linen.Module, or a function that makes one"


def make_torso(config: PolicyConfig, observation_shape: tuple[int, ...]) -> MakeTorso:
    """Prepares the torso that a config describes, and tries it on shapes alone.

    Args:
      config: names a torso: a Flax module's class, or a function that makes a module. Where its signature has
        `observation_shape`, `hidden_sizes` or `activation` (a function), it is given them.
      observation_shape: of one observation.

    Returns:
      A function that makes the module, at each call a new one.

    Raises:
      ConfigError: a torso or an activation that cannot be imported, that does not take these arguments, or that makes
        no Flax module; or a module that is no torso: it fails, returns something else than features `[..., F]`, has
        mutable state, parameters that are not float32 or have the name of the head, or draws random numbers.
    """
    path, name = "policy.network", config.network
    factory = components.load(path, name, _makes_torsos, _KIND) if components.is_outside(name) else TORSOS[name]
    offered = {
        "observation_shape": observation_shape,
        "hidden_sizes": tuple(config.hidden_sizes),
        "activation": _activation(config.activation),
    }
    known = components.parameters_of(factory)
    make = functools.partial(factory, **{key: value for key, value in offered.items() if key in known})
    components.check_arguments(path, make, kwargs=config.network_kwargs)
    make_module = functools.partial(make, **config.network_kwargs)
    _check_torso(f"config.{path} {components.show_name(name)}", factory, make_module, observation_shape)
    return make_module


def _activation(name: Any) -> Activation:
    if not components.is_outside(name):
        return getattr(jax.nn, name)
    outside = components.load("policy.activation", name)
    who = f"config.policy.activation {components.show_name(name)}"

    def play(array: jax.Array) -> jax.Array:
        what = f"real numbers of the shape of its argument, {array.shape}"
        return components.checked_numbers(who, outside(array), array.shape, what, real=True)

    with components.failures_named(who, outside):
        jax.eval_shape(play, jnp.zeros((2, 3)))
    return outside


def _makes_torsos(found: Any) -> bool:
    """Whether it is a class or a function; a module that is made already can be called too, with observations."""
    return callable(found) and not isinstance(found, nn.Module)


def _check_torso(where: str, factory: Any, make: Callable[[], Any], observation_shape: tuple[int, ...]) -> None:
    """Refuses a module that is no torso. Nothing is computed."""

    def play() -> list[Any]:
        module = make()
        if not isinstance(module, nn.Module):
            raise ConfigError(f"{where} must make a flax.linen.Module, got {quoted(module)}.")
        variables = module.init(jax.random.key(0), jnp.zeros(observation_shape))
        if others := sorted(set(variables) - {"params"}):
            raise ConfigError(
                f"{where} has mutable state ({', '.join(others)}), which no update would carry on; a torso has "
                "parameters alone."
            )
        _check_parameters(where, getattr(module, "head_name", HEAD), variables.get("params", {}))
        return [module.apply(variables, jnp.zeros((*axes, *observation_shape))) for axes in _LEADING]

    try:
        with components.failures_named(f"{where} at observations of shape {observation_shape}", factory):
            features = jax.eval_shape(play)
    except ConfigError as error:
        if not isinstance(error.__cause__, flax.errors.InvalidRngError):
            raise
        raise ConfigError(
            f"{where} draws random numbers, as dropout does, which a torso may not: its features must follow from "
            "parameters and observations alone."
        ) from error
    for axes, found in zip(_LEADING, features, strict=True):
        is_array = isinstance(found, jax.ShapeDtypeStruct)
        wanted = is_array and found.shape[:-1] == axes and found.ndim == len(axes) + 1 and found.shape[-1] > 0
        if not wanted or not jnp.issubdtype(found.dtype, jnp.floating):
            given = f"{found.dtype}{list(found.shape)}" if is_array else f"a {type(found).__name__}"
            raise ConfigError(
                f"{where} maps observations of shape {(*axes, *observation_shape)} to {given}; it must be real "
                f"features of shape ({', '.join([*map(str, axes), 'F'])}), of any size F, whatever axes lead."
            )


def _check_parameters(where: str, head: str, params: Params) -> None:
    """Refuses the parameters of a torso that no gradient step could move, or that hide those of the head."""
    if head in params:
        raise ConfigError(
            f"{where} has a layer or a parameter called {head}, as the layer after it is called; give it another name."
        )
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if leaf.dtype != jnp.float32:
            raise ConfigError(
                f"{where} has the parameter {jax.tree_util.keystr(path, simple=True, separator='.')} in {leaf.dtype}; "
                "all must be float32, whatever it computes in."
            )


def make_policy(
    feature_shape: tuple[int, ...],
    action_space: ActionSpace,
    *,
    make_torso: MakeTorso,
    initial_log_std: float,
    mask_size: int = 0,
) -> Policy:
    """Builds the policy for an environment of these shapes.

    Args:
      feature_shape: of an observation, or of what comes before the action mask in it.
      action_space: what kind of actions.
      make_torso: the function of this name gives one.
      initial_log_std: logarithm of the first standard deviation, in units of half the action range; real
        actions only.
      mask_size: entries at the end of an observation that are an action mask: as many as there are choices, or 0.

    Returns:
      The `Policy`.
    """
    name_of_torso = f"{type(make_torso()).__name__}_0"
    module: nn.Module
    draw: Callable[[jax.Array, tuple[int, ...]], jax.Array]
    shape: tuple[int, ...]
    if isinstance(action_space, Discrete):
        shape, draw, act = (action_space.n,), jax.random.gumbel, _act_discrete
        module = CategoricalPolicy(make_torso, name_of_torso, action_space.n)
    elif isinstance(action_space, MultiDiscrete):
        nvec = action_space.nvec
        shape, draw, act = (len(nvec), max(nvec)), jax.random.gumbel, _act_multi_discrete
        module = MultiCategoricalPolicy(make_torso, name_of_torso, nvec)
    else:
        shape, draw, act = (action_space.size,), jax.random.normal, _act_real
        module = GaussianPolicy(make_torso, name_of_torso, action_space.size, initial_log_std)

    def init(key: jax.Array) -> Params:
        return module.init(key, jnp.zeros(feature_shape))["params"]

    def apply(params: Params, observations: jax.Array) -> distrax.Distribution:
        features, mask = split_mask(observations, feature_shape, mask_size)
        return module.apply({"params": params}, features, *(() if mask is None else (mask,)))

    def noise(key: jax.Array, batch: tuple[int, ...]) -> jax.Array:
        return draw(key, (*batch, *shape))

    return Policy(init, apply, noise, act)


def split_mask(
    observations: jax.Array, feature_shape: tuple[int, ...], mask_size: int
) -> tuple[jax.Array, jax.Array | None]:
    """Splits observations `[..., O]` into features `[..., *feature_shape]` and the action mask after them.

    Args:
      observations: `[..., *O]`; vectors where there is a mask.
      feature_shape: of the features.
      mask_size: entries of the mask.

    Returns:
      The features, and the mask `[..., mask_size]` boolean, None where `mask_size` is 0.
    """
    if not mask_size:
        return observations, None
    features, mask = observations[..., :-mask_size], observations[..., -mask_size:]
    return features.reshape(*observations.shape[:-1], *feature_shape), mask > 0.5


def _act_discrete(distribution: distrax.Categorical, noise: jax.Array) -> jax.Array:
    return jnp.argmax(distribution.logits + noise, axis=-1)


def _act_multi_discrete(distribution: distrax.Independent, noise: jax.Array) -> jax.Array:
    return _act_discrete(distribution.distribution, noise)


def _act_real(distribution: distrax.MultivariateNormalDiag, noise: jax.Array) -> jax.Array:
    return distribution.mean() + distribution.stddev() * noise


def make_value(feature_shape: tuple[int, ...], *, make_torso: MakeTorso, mask_size: int = 0) -> Value:
    """Builds a value function for observations of this shape: a network like the policy's, with one output.

    Args:
      feature_shape: of an observation, or of what comes before the action mask in it.
      make_torso: the function of this name gives one.
      mask_size: entries at the end of an observation that are an action mask, which no value depends on.

    Returns:
      The `Value`.
    """
    module = _Network(make_torso, 1, 1.0)

    def init(key: jax.Array) -> Params:
        return module.init(key, jnp.zeros(feature_shape))["params"]

    def apply(params: Params, observations: jax.Array) -> jax.Array:
        features, _ = split_mask(observations, feature_shape, mask_size)
        return jnp.squeeze(jnp.asarray(module.apply({"params": params}, features)), axis=-1)

    return Value(init, apply)


def action_log_probs(policy: Policy, params: Params, observations: jax.Array, actions: jax.Array) -> jax.Array:
    """The log-probabilities `[M, T]`, in nats, of actions `[M, T]` or `[M, T, A]` at observations `[M, T, *O]`."""
    # As products of plain matrices, which take a tenth less time on CPU than those of [M, T, *O].
    rows = [array.reshape(-1, *array.shape[2:]) for array in (observations, actions)]
    return policy.apply(params, rows[0]).log_prob(rows[1]).reshape(observations.shape[:2])
