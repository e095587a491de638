"""HAEPO on CartPole in one file: python examples/single_file_haepo.py

An update samples M episodes. A softmax over their scores gives each a weight, and a few gradient steps move weight to
those of larger return; an entropy term keeps it spread and a KL term keeps it near a reference policy's.

In PureJaxRL's manner `make_train(config)` makes `train(key)`, a whole run as one pure function to vmap over seeds.
The losses are haepo_jax's and all else is here. A seed learns as it does in `haepo_jax.population`.
Takes 10 s on 2 CPU cores. Expect a return of 500, the most there is, from each seed after 20 updates.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import distrax
import flax.linen as nn
import gymnax
import jax
import jax.numpy as jnp
import optax

import haepo_jax as hj

Params = Any


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of a run, those of configs/cartpole.py."""

    env: str = "CartPole-v1"
    num_updates: int = 40
    num_trajectories: int = 16  # M, the episodes of an update, which compete with one another
    horizon: int = 500  # T, the step at which each is cut
    hidden_sizes: tuple[int, ...] = (64, 64)
    num_epochs: int = 4  # gradient steps on each batch of episodes
    learning_rate: float = 3e-3
    max_grad_norm: float = 0.5
    temperature: float = 4.0  # the larger, the more even the weights of the episodes
    entropy_coef: float = 0.3  # beta: spreads the weights over the episodes
    kl_coef: float = 5e-3  # lambda: draws the weights to those of the reference policy


class MLP(nn.Module):
    """Maps `[..., O]` to `[..., output_size]`; a small last layer makes the first policy near uniform."""

    hidden_sizes: tuple[int, ...]
    output_size: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the layers."""
        for size in self.hidden_sizes:
            x = nn.tanh(nn.Dense(size, kernel_init=nn.initializers.orthogonal(2**0.5))(x))
        return nn.Dense(self.output_size, kernel_init=nn.initializers.orthogonal(0.01))(x)


class Policy(nn.Module):
    """Maps observations `[..., O]` to a distribution over actions."""

    hidden_sizes: tuple[int, ...]
    num_actions: int

    @nn.compact
    def __call__(self, observations: jax.Array) -> distrax.Categorical:
        """Applies the network."""
        return distrax.Categorical(logits=MLP(self.hidden_sizes, self.num_actions)(observations))


def make_train(config: Config) -> Callable[[jax.Array], tuple[Params, dict[str, jax.Array]]]:
    """Makes `train(key) -> (params, metrics)`; `metrics` are `[num_updates]` each."""
    env, env_params = gymnax.make(config.env)
    policy = Policy(config.hidden_sizes, env.num_actions)
    optimizer = optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.adam(config.learning_rate))

    def collect(params: Params, key: jax.Array) -> tuple[jax.Array, ...]:
        reset_key, step_key = jax.random.split(key)

        def step(carry, t):
            observations, env_states = carry
            act_key, env_key = jax.random.split(jax.random.fold_in(step_key, t))
            actions, log_probs = policy.apply(params, observations).sample_and_log_prob(seed=act_key)
            following, env_states, rewards, terminated, truncated, _ = jax.vmap(env.step, (0, 0, 0, None))(
                jax.random.split(env_key, config.num_trajectories), env_states, actions, env_params
            )
            return (following, env_states), (observations, actions, log_probs, rewards, terminated | truncated)

        reset = jax.vmap(env.reset, (0, None))(jax.random.split(reset_key, config.num_trajectories), env_params)
        _, steps = jax.lax.scan(step, reset, jnp.arange(config.horizon))
        return tuple(jnp.moveaxis(series, 0, 1) for series in steps)  # [M, T, ...]

    def update(state, key):
        params, optimizer_state, reference_params = state
        observations, actions, log_probs, rewards, dones = collect(params, key)
        mask = hj.first_episode_mask(dones)  # gymnax resets where an episode ends; what follows is left out
        returns = hj.trajectory_returns(rewards, where=mask)
        behaviour = hj.trajectory_log_likelihood(log_probs, where=mask)

        def score(params: Params) -> jax.Array:  # [M]
            current_log_probs = policy.apply(params, observations).log_prob(actions)
            log_likelihoods = hj.trajectory_log_likelihood(current_log_probs, where=mask)
            # As a ratio to the policy that sampled the batch: no episode weighs more for being short, and the later
            # epochs allow for what the earlier ones have changed.
            return hj.trajectory_scores(log_likelihoods, kind="log_ratio", behaviour_log_likelihoods=behaviour)

        reference_scores = score(reference_params)

        def loss_fn(params: Params) -> tuple[jax.Array, hj.HaepoMetrics]:
            return hj.haepo_loss(
                score(params),
                returns,
                reference_scores,
                entropy_coef=config.entropy_coef,
                kl_coef=config.kl_coef,
                temperature=config.temperature,
            )

        def epoch(carry, _):
            params, optimizer_state = carry
            (loss, terms), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
            updates, optimizer_state = optimizer.update(grads, optimizer_state)
            return (optax.apply_updates(params, updates), optimizer_state), (loss, terms.effective_sample_size)

        trained, (loss, ess) = jax.lax.scan(epoch, (params, optimizer_state), length=config.num_epochs)
        metrics = {"episode_return": returns.mean(), "loss": loss[-1], "effective_sample_size": ess[-1]}
        # The reference stays one update behind: a KL to the policy that samples would begin without a gradient.
        return (*trained, params), metrics

    def train(key: jax.Array) -> tuple[Params, dict[str, jax.Array]]:
        params = policy.init(jax.random.fold_in(key, 0), jnp.zeros(env.observation_space(env_params).shape))
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, 1), jnp.arange(config.num_updates))
        (params, _, _), metrics = jax.lax.scan(update, (params, optimizer.init(params), params), keys)
        return params, metrics

    return train


def main(config: Config = Config(), num_seeds: int = 4) -> tuple[Params, dict[str, jax.Array]]:
    """Trains all seeds in one program and prints a table; what it returns has a leading axis of seeds."""
    keys = jax.vmap(jax.random.key)(jnp.arange(num_seeds))
    params, metrics = jax.jit(jax.vmap(make_train(config)))(keys)
    print(f"update  mean return  worst seed  effective sample size (of {config.num_trajectories})")
    for u in jnp.unique(jnp.linspace(0, config.num_updates - 1, 9, dtype=int)):
        returns, ess = metrics["episode_return"][:, u], metrics["effective_sample_size"][:, u]
        print(f"{u + 1:6d}{returns.mean():13.1f}{returns.min():12.1f}{ess.mean():23.1f}")
    return params, metrics


if __name__ == "__main__":
    main()
