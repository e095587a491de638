"""Policies and value functions: a torso, then a head of ours that ends in a distrax distribution or in a value.

This is the only part of the package that knows distrax. A torso is a Flax module that maps observations
`[..., *observation_shape]` to features `[..., F]`, whatever axes lead; `mlp` and `cnn` are here, those with a memory
in `haepo_jax.networks.recurrent`, others come from outside.
"""

import functools
import math
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
from haepo_jax.networks.recurrent import CELLS, Carry, Memory, RecurrentTorso, make_initial_carry, repeat_carry
from haepo_jax.types import Params

HEAD = "head"
"""The name of the layer after a torso, unless that has an attribute `head_name`."""
Activation = Callable[[jax.Array], jax.Array]
MakeTorso = Callable[[], nn.Module]

_LEADING = ((), (2,), (2, 3))
"""Axes with which a torso is tried: an observation alone, a batch, a batch over time."""


class Recurrence[Output](NamedTuple):
    """The memory of a network, as pure functions."""

    start: Callable[[], Carry]
    """`() -> carry` before an episode's first step: NumPy arrays without axes of a batch. It is a function, so that a
    policy may be a static argument of a program."""
    apply: Callable[[Params, jax.Array, Memory], tuple[Carry, Output]]
    """`(params, observations, memory) -> (carry, output)`, for one step `[..., *O]` or for T `[N, T, *O]`; see
    `Memory`."""


class Policy(NamedTuple):
    """A policy as pure functions.

    It may remember what it has seen of an episode. What it remembers is its carry, which is empty for a policy without
    memory; `step` and `unroll` serve both kinds.
    """

    init: Callable[[jax.Array], Params]
    """`key -> params`."""
    apply: Callable[[Params, jax.Array], distrax.Distribution]
    """`(params, observations [..., *O]) -> distribution over actions` with batch shape `[...]`; of a policy with a
    memory, at the first step of an episode."""
    noise: Callable[[jax.Array, tuple[int, ...]], jax.Array]
    """`(key, batch shape) -> noise`, all that chance has in one action for each of the batch."""
    act: Callable[[distrax.Distribution, jax.Array], jax.Array]
    """`(distribution, noise) -> actions`."""
    recurrence: Recurrence[distrax.Distribution] | None = None
    """None for a policy without memory."""

    def start(self, *shape: int) -> Carry:
        """Makes the carry before the first step of episodes, `[*shape, *C]`."""
        return _start(self.recurrence, shape)

    def step(self, params: Params, carry: Carry, observations: jax.Array) -> tuple[Carry, distrax.Distribution]:
        """Sees one more step.

        Args:
          params: of the policy.
          carry: `[..., *C]`, from `start` or from the step before.
          observations: `[..., *O]`.

        Returns:
          The carry after the step, and the distribution over actions with batch shape `[...]`.
        """
        if self.recurrence is None:
            return carry, self.apply(params, observations)
        return self.recurrence.apply(params, observations, Memory(carry))

    def unroll(
        self, params: Params, carry: Carry, observations: jax.Array, resets: jax.Array
    ) -> tuple[Carry, distrax.Distribution]:
        """Sees T more steps.

        Args:
          params: of the policy.
          carry: `[N, *C]`, before the first of them.
          observations: `[N, T, *O]`.
          resets: `[N, T]` or `[T]` boolean, True where a step begins an episode, whatever was before.

        Returns:
          The carry after the last step, and the distribution over actions with batch shape `[N, T]`.
        """
        if self.recurrence is None:
            return carry, self.apply(params, observations)
        return self.recurrence.apply(params, observations, Memory(carry, resets))

    def map_inputs(self, change: Callable[[Params, jax.Array], tuple[Params, jax.Array]]) -> "Policy":
        """Makes the policy that sees other parameters and observations than it is given.

        Args:
          change: `(params, observations [..., *O]) -> the same as this policy is to see them`.
        """
        apply, recurrence = _map_inputs(self.apply, self.recurrence, change)
        return self._replace(apply=apply, recurrence=recurrence)


class Value(NamedTuple):
    """A value function as pure functions, with a memory or without, as a `Policy`."""

    init: Callable[[jax.Array], Params]
    """`key -> params`."""
    apply: Callable[[Params, jax.Array], jax.Array]
    """`(params, observations [..., *O]) -> values [...]`; with a memory, at the first step of an episode."""
    recurrence: Recurrence[jax.Array] | None = None
    """None for a value function without memory."""

    def start(self, *shape: int) -> Carry:
        """Makes the carry before the first step of episodes, `[*shape, *C]`."""
        return _start(self.recurrence, shape)

    def unroll(
        self, params: Params, carry: Carry, observations: jax.Array, resets: jax.Array
    ) -> tuple[Carry, jax.Array]:
        """Computes the values `[N, T]` of T more steps; arguments as of `Policy.unroll`."""
        if self.recurrence is None:
            return carry, self.apply(params, observations)
        return self.recurrence.apply(params, observations, Memory(carry, resets))

    def unroll_with_next(
        self, params: Params, carry: Carry, observations: jax.Array, next_observations: jax.Array, resets: jax.Array
    ) -> tuple[Carry, jax.Array, jax.Array]:
        """Computes the values of T more steps, and of what followed each.

        Args:
          params: of the value function.
          carry: `[N, *C]`, before the first step.
          observations: `[N, T, *O]`.
          next_observations: `[N, T, *O]`, after each step, which its episode's memory goes on to.
          resets: as of `unroll`.

        Returns:
          The carry after the last step, values `[N, T]`, and values `[N, T]` of the next observations.
        """
        if self.recurrence is None:
            return carry, self.apply(params, observations), self.apply(params, next_observations)
        carries, values = self.recurrence.apply(params, observations, Memory(carry, resets, keeps_all=True))
        _, following = self.recurrence.apply(params, next_observations, Memory(carries))
        return jax.tree.map(lambda leaf: leaf[:, -1], carries), values, following

    def map_inputs(self, change: Callable[[Params, jax.Array], tuple[Params, jax.Array]]) -> "Value":
        """Makes the value function that sees other parameters and observations, as `Policy.map_inputs` does."""
        apply, recurrence = _map_inputs(self.apply, self.recurrence, change)
        return self._replace(apply=apply, recurrence=recurrence)


def _start(recurrence: Recurrence | None, shape: tuple[int, ...]) -> Carry:
    return () if recurrence is None else repeat_carry(recurrence.start(), *shape)


def _map_inputs[Output](
    apply: Callable[[Params, jax.Array], Output],
    recurrence: Recurrence[Output] | None,
    change: Callable[[Params, jax.Array], tuple[Params, jax.Array]],
) -> tuple[Callable[[Params, jax.Array], Output], Recurrence[Output] | None]:
    def mapped(params: Params, observations: jax.Array) -> Output:
        return apply(*change(params, observations))

    if recurrence is None:
        return mapped, None

    def recur(params: Params, observations: jax.Array, memory: Memory) -> tuple[Carry, Output]:
        return recurrence.apply(*change(params, observations), memory)

    return mapped, recurrence._replace(apply=recur)


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


TORSOS: Mapping[str, Callable[..., nn.Module]] = {"mlp": MLP, "cnn": CNN, **CELLS}
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
    def __call__(self, observations: jax.Array, memory: Memory | None = None) -> tuple[Carry, jax.Array]:
        """Maps `[..., *observation_shape]` to `[..., output_size]`, with the carry after it, if any."""
        carry, features = ((), self.torso(observations)) if memory is None else self.torso(observations, memory)
        name = getattr(self.torso, "head_name", HEAD)
        head = nn.Dense(self.output_size, kernel_init=nn.initializers.orthogonal(self.output_scale), name=name)
        return carry, head(features)


class CategoricalPolicy(nn.Module):
    """Discrete actions: softmax over the outputs of a network."""

    make_torso: MakeTorso
    name_of_torso: str
    num_actions: int

    @nn.compact
    def __call__(
        self, observations: jax.Array, memory: Memory | None = None, mask: jax.Array | None = None
    ) -> tuple[Carry, distrax.Distribution]:
        """The carry, if any, and the distribution over actions at `observations [..., *O]`.

        Args:
          observations: `[..., *O]`.
          memory: the carry before them.
          mask: `[..., n]` boolean, the actions that are allowed; all when None.
        """
        network = _Network(self.make_torso, self.num_actions, 0.01, name=self.name_of_torso)
        carry, logits = network(observations, memory)
        return carry, distrax.Categorical(logits=logits if mask is None else mask_logits(logits, mask))


class MultiCategoricalPolicy(nn.Module):
    """Several choices at once: independent categoricals, their logits side by side in the output of one network."""

    make_torso: MakeTorso
    name_of_torso: str
    nvec: tuple[int, ...]

    @nn.compact
    def __call__(
        self, observations: jax.Array, memory: Memory | None = None, mask: jax.Array | None = None
    ) -> tuple[Carry, distrax.Distribution]:
        """The carry, if any, and the distribution over actions `[..., A]` at `observations [..., *O]`.

        Args:
          observations: `[..., *O]`.
          memory: the carry before them.
          mask: `[..., sum(nvec)]` boolean, the choices that are allowed, one choice after the other; all when None.
        """
        network = _Network(self.make_torso, sum(self.nvec), 0.01, name=self.name_of_torso)
        carry, outputs = network(observations, memory)
        # In rows of one length, which is that of the longest: what is beyond a shorter one is masked.
        places, is_there = _rows_of(self.nvec)
        allowed = is_there if mask is None else is_there & mask[..., places]
        logits = mask_logits(outputs[..., places], allowed, is_there)
        return carry, distrax.Independent(distrax.Categorical(logits=logits), 1)


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
    def __call__(self, observations: jax.Array, memory: Memory | None = None) -> tuple[Carry, distrax.Distribution]:
        """The carry, if any, and the distribution over actions at `observations [..., *O]`."""
        network = _Network(self.make_torso, self.action_size, 0.01, name=self.name_of_torso)
        carry, mean = network(observations, memory)
        log_std = self.param("log_std", nn.initializers.constant(self.initial_log_std), (self.action_size,))
        std = jnp.broadcast_to(jnp.exp(log_std).reshape((1,) * (mean.ndim - 1) + (-1,)), mean.shape)
        return carry, distrax.MultivariateNormalDiag(mean, std)


_KIND = "the class of a flax.linen.Module, or a function that makes one"


def make_torso(config: PolicyConfig, observation_shape: tuple[int, ...]) -> MakeTorso:
    """Prepares the torso that a config describes, and tries it on shapes alone.

    Args:
      config: names a torso: a Flax module's class, or a function that makes a module. Where its signature has
        `observation_shape`, `hidden_sizes` or `activation` (a function), it is given them. A recurrent cell, an
        `nn.RNNCellBase`, follows an MLP of all hidden sizes but the last, which is the `features` of a cell's class.
      observation_shape: of one observation.

    Returns:
      A function that makes the module, at each call a new one.

    Raises:
      ConfigError: a torso or an activation that cannot be imported, that does not take these arguments, or that makes
        no Flax module; or a module that is no torso: it fails, returns something else than features `[..., F]`, has
        mutable state, parameters that are not float32 or have the name of the head, or draws random numbers; or a cell
        that changes the structure of its carry.
    """
    path, name = "policy.network", config.network
    factory = components.load(path, name, _makes_torsos, _KIND) if components.is_outside(name) else TORSOS[name]
    sizes, activation = tuple(config.hidden_sizes), _activation(config.activation)
    offered: dict[str, Any] = {
        "observation_shape": observation_shape,
        "hidden_sizes": sizes,
        "activation": activation,
    }
    if is_cell(factory):
        if not sizes:
            raise ConfigError(
                f"config.policy.hidden_sizes must not be empty where config.{path} is {components.show_name(name)}: "
                "the last is the size of what it remembers."
            )
        offered["features"] = sizes[-1]
    known = components.parameters_of(factory)
    make = functools.partial(factory, **{key: value for key, value in offered.items() if key in known})
    components.check_arguments(path, make, kwargs=config.network_kwargs)
    make_module: Callable[[], Any] = functools.partial(make, **config.network_kwargs)
    where = f"config.{path} {components.show_name(name)}"
    if is_cell(factory):
        encoder = functools.partial(MLP, observation_shape, sizes[:-1], activation)
        input_size = sizes[-2] if len(sizes) > 1 else math.prod(observation_shape)
        _check_cell(where, factory, make_module, input_size)
        make_module = functools.partial(RecurrentTorso, observation_shape, encoder, input_size, make_module)
    _check_torso(where, factory, make_module, observation_shape)
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


def is_cell(factory: Callable) -> bool:
    """Says whether a torso's factory is the class of a recurrent cell, which layers come before."""
    return isinstance(factory, type) and issubclass(factory, nn.RNNCellBase)


def _check_cell(where: str, factory: Any, make: Callable[[], Any], input_size: int) -> None:
    """Refuses a cell whose carry does not stay as it is. Nothing is computed but the first."""

    def play() -> Any:
        inputs = jnp.zeros((2, input_size))
        carry = repeat_carry(initial, 2)
        variables = make().init(jax.random.key(0), carry, inputs)
        return carry, make().apply(variables, carry, inputs)[0]

    with components.failures_named(f"{where} at inputs of {input_size} numbers", factory):
        initial = make_initial_carry(make(), input_size)
        before, after = jax.eval_shape(play)
    shapes = [jax.tree_util.tree_map(lambda leaf: leaf.shape, carry) for carry in (before, after)]
    if shapes[0] != shapes[1] or not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(before)):
        raise ConfigError(
            f"{where} makes of a carry {_show_tree(before)} one of {_show_tree(after)}; it must be of real "
            "numbers, and of the shapes that initialize_carry gives it."
        )


def _show_tree(tree: Any) -> str:
    return str(jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", tree)).replace("'", "")


def _check_torso(where: str, factory: Any, make: Callable[[], Any], observation_shape: tuple[int, ...]) -> None:
    """Refuses a module that is no torso. Nothing is computed."""

    def play() -> list[Any]:
        module = make()
        if isinstance(module, nn.RNNCellBase):
            raise ConfigError(f"{where} makes a recurrent cell, {type(module).__name__}; name the class of the cell.")
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

    def recur(
        params: Params, observations: jax.Array, memory: Memory | None = None
    ) -> tuple[Carry, distrax.Distribution]:
        features, mask = split_mask(observations, feature_shape, mask_size)
        return module.apply({"params": params}, features, memory, *(() if mask is None else (mask,)))

    def noise(key: jax.Array, batch: tuple[int, ...]) -> jax.Array:
        return draw(key, (*batch, *shape))

    recurrence = _make_recurrence(make_torso(), recur)
    return Policy(init, lambda params, observations: recur(params, observations)[1], noise, act, recurrence)


def _make_recurrence[Output](
    torso: nn.Module, apply: Callable[[Params, jax.Array, Memory], tuple[Carry, Output]]
) -> Recurrence[Output] | None:
    if not isinstance(torso, RecurrentTorso):
        return None
    carry = torso.initial_carry
    return Recurrence(lambda: carry, apply)


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

    def recur(params: Params, observations: jax.Array, memory: Memory | None = None) -> tuple[Carry, jax.Array]:
        features, _ = split_mask(observations, feature_shape, mask_size)
        carry, values = module.apply({"params": params}, features, memory)
        return carry, jnp.squeeze(jnp.asarray(values), axis=-1)

    recurrence = _make_recurrence(make_torso(), recur)
    return Value(init, lambda params, observations: recur(params, observations)[1], recurrence)


def share_torso(value: Value, make_torso: MakeTorso) -> Value:
    """Makes the value function that has the torso of a policy, and a head of its own.

    Args:
      value: a value function of the same torso.
      make_torso: the function of this name has given it, to both.

    Returns:
      The `Value`. Its own parameters are those of the head; it takes `{"policy": ..., "value": ...}`, the policy's and
      these, and its gradient reaches both.
    """
    torso = make_torso()
    name, head = f"{type(torso).__name__}_0", getattr(torso, "head_name", HEAD)

    def join(params: Params, observations: jax.Array) -> tuple[Params, jax.Array]:
        return {**params["policy"][name], head: params["value"][head]}, observations

    return value.map_inputs(join)._replace(init=lambda key: {head: value.init(key)[head]})


def unroll_log_probs(
    policy: Policy,
    params: Params,
    carry: Carry,
    observations: jax.Array,
    actions: jax.Array,
    resets: jax.Array | None,
) -> tuple[Carry, jax.Array]:
    """Computes the log-probabilities of actions of T more steps.

    Args:
      policy: whose they are.
      params: where to take them.
      carry: `[M, *C]`, before the first step.
      observations: `[M, T, *O]`.
      actions: `[M, T]` or `[M, T, A]`.
      resets: `[M, T]` or `[T]` boolean, True where a step begins an episode; None for a policy without memory.

    Returns:
      The carry after the last step, and `[M, T]` in nats.
    """
    if policy.recurrence is not None:
        assert resets is not None
        carry, distribution = policy.unroll(params, carry, observations, resets)
        return carry, distribution.log_prob(actions)
    # As products of plain matrices, which take a tenth less time on CPU than those of [M, T, *O].
    rows = [array.reshape(-1, *array.shape[2:]) for array in (observations, actions)]
    return carry, policy.apply(params, rows[0]).log_prob(rows[1]).reshape(observations.shape[:2])


def action_log_probs(policy: Policy, params: Params, observations: jax.Array, actions: jax.Array) -> jax.Array:
    """Computes those `[M, T]` of actions `[M, T]` or `[M, T, A]` of episodes from their first step, in nats."""
    start = policy.start(observations.shape[0])
    resets = jnp.zeros(observations.shape[1], bool)
    return unroll_log_probs(policy, params, start, observations, actions, resets)[1]
