"""A float64 NumPy reference of every loss, written group by group from the maths, and random batches."""

from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

try:
    from jax import enable_x64
except ImportError:  # the losses are tested on older versions of JAX too
    from jax.experimental import enable_x64


class Batch(NamedTuple):
    scores: np.ndarray
    returns: np.ndarray
    reference_scores: np.ndarray
    where: np.ndarray


@pytest.fixture(scope="session")
def make_batch():
    """Random batches of a shape; every group has a valid trajectory and, from M = 4 on, a masked one."""

    def make(shape, seed=0, garbage=None):
        rng = np.random.default_rng(seed)
        where = rng.random(shape) < 0.7
        where[..., 0] = True
        if shape[-1] >= 4:
            where[..., 1] = False
        arrays = [2 * rng.normal(size=shape), rng.uniform(0.5, 3, size=shape), 2 * rng.normal(size=shape)]
        if garbage is not None:
            arrays = [np.where(where, array, garbage) for array in arrays]
        return Batch(*arrays, where)

    return make


@pytest.fixture(scope="session")
def reference():
    """The reference. Masked entries are left out rather than masked."""
    return SimpleNamespace(
        log_likelihood=_log_likelihood,
        discounted_return=_discounted_return,
        first_episode_mask=_first_episode_mask,
        scores=_scores,
        normalize=_normalize,
        log_weights=_log_weights,
        entropy=_entropy,
        kl=_kl,
        effective_sample_size=_effective_sample_size,
        haepo=_haepo,
        coefficients=_coefficients,
        target_temperature=_target_temperature,
        target_log_weights=_target_log_weights,
        projected=_projected,
        reinforce=_reinforce,
        leave_one_out=_leave_one_out,
        generalized_advantages=_generalized_advantages,
        surrogate=_surrogate,
        value_error=_value_error,
        grpo=_grpo,
        policy_ratio=_policy_ratio,
        dpo=_dpo,
        ranking=_ranking,
        gvpo=_gvpo,
        vmpo=_vmpo,
        preference_pairs=_preference_pairs,
    )


@pytest.fixture(scope="session")
def policy():
    """A linear softmax policy over 3 actions, and what it did on trajectories of 5 steps with 2 observations."""

    def log_likelihoods(params, observations, actions):
        log_probs = jax.nn.log_softmax(observations @ params)
        return jnp.take_along_axis(log_probs, actions[..., None], axis=-1)[..., 0].sum(-1)

    def make(shape, seed=0):
        rng = np.random.default_rng(seed)
        return SimpleNamespace(
            params=rng.normal(size=(2, 3)),
            observations=rng.normal(size=(*shape, 5, 2)),
            actions=rng.integers(0, 3, (*shape, 5)),
            log_likelihoods=log_likelihoods,
        )

    return make


@pytest.fixture(autouse=True, scope="module")
def no_rank_promotion():
    """An array that broadcasts against one of another rank is an error in every test here."""
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def x64():
    """Double precision within the test."""
    with enable_x64(True):
        yield


@pytest.fixture(scope="session")
def rlax():
    """The losses of others, of which a few coincide with ours; imported late, as it takes seconds."""
    return pytest.importorskip("rlax")


def _vectors(array):
    """Every vector along the last axis, as (index, vector)."""
    return ((index, np.asarray(array)[index]) for index in np.ndindex(np.shape(array)[:-1]))


def _all(array):
    return np.ones(np.shape(array), bool)


def _log_likelihood(log_probs, where=None):
    where = _all(log_probs) if where is None else where
    out = np.zeros(log_probs.shape[:-1])
    for index, steps in _vectors(log_probs):
        out[index] = sum(float(step) for step, valid in zip(steps, where[index], strict=True) if valid)
    return out


def _discounted_return(rewards, discount, where=None):
    where = _all(rewards) if where is None else where
    out = np.zeros(rewards.shape[:-1])
    for index, steps in _vectors(rewards):
        out[index] = sum(discount**t * float(r) for t, r in enumerate(steps) if where[index][t])
    return out


def _first_episode_mask(done):
    out = np.zeros(done.shape, bool)
    for index, flags in _vectors(done):
        for t, flag in enumerate(flags):
            out[index][t] = True
            if flag:
                break
    return out


def _scores(kind, log_likelihoods, lengths, behaviour):
    return {"sum": log_likelihoods, "mean": log_likelihoods / lengths, "log_ratio": log_likelihoods - behaviour}[kind]


def _normalize(returns, method, where=None):
    where = _all(returns) if where is None else where
    out = np.zeros(returns.shape)
    for index, group in _vectors(returns):
        kept = group[where[index]].astype(np.float64)
        if kept.size == 0:
            continue
        if method == "zscore":
            mean = kept.sum() / kept.size
            std = np.sqrt(((kept - mean) ** 2).sum() / kept.size)
            kept = (kept - mean) / (std + 1e-8)
        elif method == "sum":
            kept = kept / kept.sum()
        out[index][where[index]] = kept
    return out


def _log_weights(scores, temperature=1.0, where=None):
    where = _all(scores) if where is None else where
    out = np.full(scores.shape, -np.inf)
    for index, group in _vectors(scores):
        present = where[index] & (group != -np.inf)
        if present.any():
            ranked = group[present].astype(np.float64) / temperature
            top = ranked.max()
            out[index][present] = ranked - top - np.log(np.exp(ranked - top).sum())
    return out


def _entropy(log_weights):
    out = np.zeros(log_weights.shape[:-1])
    for index, group in _vectors(log_weights):
        out[index] = -sum(np.exp(log_w) * log_w for log_w in group if log_w > -np.inf)
    return out


def _kl(log_weights, reference_log_weights):
    out = np.zeros(log_weights.shape[:-1])
    for index, group in _vectors(log_weights):
        pairs = zip(group, reference_log_weights[index], strict=True)
        out[index] = sum(np.exp(log_w) * (log_w - log_ref) for log_w, log_ref in pairs if log_w > -np.inf)
    return out


def _effective_sample_size(log_weights):
    out = np.zeros(log_weights.shape[:-1])
    for index, group in _vectors(log_weights):
        if (group > -np.inf).any():
            out[index] = 1 / (np.exp(group) ** 2).sum()
    return out


def _haepo(scores, returns, reference_scores, *, entropy_coef, kl_coef, temperature, normalization, where):
    """Loss and metrics, as a namespace."""
    normalized = _normalize(returns, normalization, where)
    log_weights = _log_weights(scores, temperature, where)
    weights = np.exp(log_weights)
    policy_loss = -(weights * normalized).sum(-1)
    entropy = _entropy(log_weights)
    kl = np.zeros(policy_loss.shape)
    if reference_scores is not None:
        kl = _kl(log_weights, _log_weights(reference_scores, temperature, where))
    counted = where.any(-1)
    b = entropy_coef + (0 if reference_scores is None else kl_coef)
    tilt = _tilt(reference_scores, returns.shape, temperature, kl_coef / b if b else 0, where)
    target = _target_log_weights(normalized, tilt, b, where)
    group_losses = (policy_loss - entropy_coef * entropy + kl_coef * kl)[counted]
    return SimpleNamespace(
        loss=group_losses.sum() / max(counted.sum(), 1),
        policy_loss=policy_loss,
        entropy=entropy,
        kl=kl,
        log_weights=log_weights,
        normalized_returns=normalized,
        effective_sample_size=_effective_sample_size(log_weights),
        max_weight=weights.max(-1),
        num_valid=where.sum(-1),
        returns_sum_not_positive=np.zeros(policy_loss.shape, bool),
        target_temperature=np.where(counted, b, 0),
        target_effective_sample_size=_effective_sample_size(target),
        target_kl=_kl(log_weights, target),
    )


def _coefficients(scores, returns, reference_scores, *, entropy_coef, kl_coef, temperature, normalization, where):
    """By the chain rule, through the Jacobian of the softmax rather than the centred closed form."""
    normalized = _normalize(returns, normalization, where)
    log_weights = _log_weights(scores, temperature, where)
    reference = None if reference_scores is None else _log_weights(reference_scores, temperature, where)
    out = np.zeros(scores.shape)
    for index, group in _vectors(log_weights):
        present = group > -np.inf
        log_w = group[present]
        slope = -normalized[index][present] + entropy_coef * (log_w + 1)
        if reference is not None:
            slope = slope + kl_coef * (log_w - reference[index][present] + 1)
        w = np.exp(log_w)
        jacobian = (np.diag(w) - np.outer(w, w)) / temperature
        out[index][present] = jacobian @ slope
    return out / max(where.any(-1).sum(), 1)


def _target_temperature(returns, share, where=None, kind="boltzmann"):
    """The root, where there is one: of a group with fewer ties for the best than its share.

    In the logarithm of b or, of the linear kind, of how far the baseline is below the best return.
    """
    where = _all(returns) if where is None else where
    out = np.zeros(returns.shape[:-1])
    for index, group in _vectors(returns):
        kept = group[where[index]].astype(np.float64)

        def weigh(log_of, kept=kept):
            offsets = kept - kept.max()
            return np.exp(offsets / np.exp(log_of)) if kind == "boltzmann" else np.maximum(offsets + np.exp(log_of), 0)

        def excess(log_of, kept=kept, weigh=weigh):
            weights = weigh(log_of)
            return weights.sum() ** 2 / (weights**2).sum() - share * kept.size

        if kept.size > 1:
            root = brentq(excess, np.log(np.ptp(kept)) - 5, np.log(np.ptp(kept)) + 8, xtol=1e-14)
            out[index] = np.exp(root) if kind == "boltzmann" else weigh(root).mean()
    return out


def _target_log_weights(returns, reference, temperature, where, kind="boltzmann"):
    """With a temperature of each group, `[...]`."""
    temperature = np.broadcast_to(temperature, returns.shape[:-1])
    if kind == "boltzmann":
        return _log_weights(returns / temperature[..., None] + reference, 1.0, where)
    log_prior, out = _log_weights(reference, 1.0, where), np.full(returns.shape, -np.inf)
    for index, group in _vectors(returns):
        kept, b = where[index], temperature[index]
        prior, values = np.exp(log_prior[index][kept]), group[kept].astype(np.float64)

        def excess(baseline, prior=prior, values=values, b=b):
            return (prior * np.maximum(values - baseline, 0)).sum() - b

        if kept.any():
            baseline = brentq(excess, values.min() - 2 * b, values.max(), xtol=1e-14)
            with np.errstate(divide="ignore"):
                out[index][kept] = np.log(prior * np.maximum(values - baseline, 0) / b)
    return out


def _tilt(reference_scores, shape, temperature, share, where):
    """Log-weights of the reference times its share, 0 where masked and without a reference."""
    if reference_scores is None:
        return np.zeros(shape)
    return share * np.where(where, _log_weights(reference_scores, temperature, where), 0)


def _projected(
    scores,
    returns,
    reference_scores,
    *,
    entropy_coef,
    kl_coef,
    temperature,
    share,
    projection,
    where,
    target="boltzmann",
):
    """Loss and coefficients of each group, and the target's log-weights, under `zscore` normalisation."""
    kind = target
    normalized, log_weights = _normalize(returns, "zscore", where), _log_weights(scores, temperature, where)
    b = entropy_coef + kl_coef
    tilt = _tilt(reference_scores, returns.shape, temperature, kl_coef / b if b else 0, where)
    if share is not None:
        b = _target_temperature(normalized, share, where, kind)
    b = np.broadcast_to(b, returns.shape[:-1])
    target = _target_log_weights(normalized, tilt, np.where(b == 0, 1, b), where, kind)
    losses, slopes = np.zeros(b.shape), np.zeros(returns.shape)
    for index, group in _vectors(log_weights):
        kept = where[index]
        log_w, log_t = group[kept], target[index][kept]
        w, t = np.exp(log_w), np.exp(log_t)
        if projection == "forward":
            losses[index], slope = -(t * log_w).sum(), w - t
        else:
            f = -normalized[index][kept] + b[index] * (log_w - tilt[index][kept])
            losses[index], slope = (w * f).sum(), (np.diag(w) - np.outer(w, w)) @ f
        slopes[index][kept] = slope / temperature
    return SimpleNamespace(losses=losses, slopes=slopes, target=target, b=b)


def _reinforce(log_likelihoods, advantages, where):
    out = np.zeros(log_likelihoods.shape[:-1])
    for index, group in _vectors(log_likelihoods):
        kept = where[index]
        if kept.any():
            out[index] = -(advantages[index][kept] * group[kept]).sum() / kept.sum()
    return SimpleNamespace(loss=out.sum() / max(where.any(-1).sum(), 1), policy_loss=out)


def _leave_one_out(returns, where):
    out = np.zeros(returns.shape)
    for index, group in _vectors(returns):
        valid = np.flatnonzero(where[index])
        for k in valid:
            others = [float(group[j]) for j in valid if j != k]
            out[index][k] = group[k] - sum(others) / len(others) if others else 0
    return out


def _generalized_advantages(rewards, values, next_values, terminated, done, discount, gae_lambda):
    """Forwards, as the sum over the rest of the episode that defines it."""
    out = np.zeros(rewards.shape)
    for index, segment in _vectors(rewards):
        for first in range(segment.size):
            for ahead, t in enumerate(range(first, segment.size)):
                after = 0 if terminated[index][t] else next_values[index][t]
                delta = segment[t] + discount * after - values[index][t]
                out[index][first] += (discount * gae_lambda) ** ahead * delta
                if done[index][t] or terminated[index][t]:
                    break
    return out


def _surrogate(log_probs, behaviour, advantages, clip_epsilon):
    """Of each element: minus the smaller of two gains, and whether the clip holds it."""
    ratios = np.exp(log_probs - behaviour)
    clipped = np.clip(ratios, 1 - clip_epsilon, 1 + clip_epsilon)
    gains = np.minimum(ratios * advantages, clipped * advantages)
    return -gains, gains < ratios * advantages


def _value_error(values, behaviour, targets, clip_epsilon):
    """Of each element: half the larger of two squared errors."""
    near = np.clip(values, behaviour - clip_epsilon, behaviour + clip_epsilon)
    return np.maximum((values - targets) ** 2, (near - targets) ** 2) / 2


def _grpo(log_probs, behaviour, advantages, reference, *, clip_epsilon, kl_coef, where, aggregation):
    """Loss and metrics, as a namespace. Trajectories without a valid step are left out of their group."""
    *shape, number, horizon = log_probs.shape
    out = {name: np.zeros(shape) for name in ("policy_loss", "kl", "clip_fraction", "approx_kl", "mean_ratio")}
    counted = np.zeros(shape, bool)
    for index in np.ndindex(*shape):
        rows = []
        for k in range(number):
            valid = where[index][k]
            if valid.any():
                theta, beta = log_probs[index][k][valid], behaviour[index][k][valid]
                ref = theta if reference is None else reference[index][k][valid]
                losses, held = _surrogate(theta, beta, advantages[index][k], clip_epsilon)
                ratios, to_reference = np.exp(theta - beta), np.exp(ref - theta)
                divergences = to_reference - np.log(to_reference) - 1
                rows.append([losses, divergences, held, ratios - 1 - np.log(ratios), ratios])
        if not rows:
            continue
        counted[index] = True
        for position, name in enumerate(out):
            steps = [row[position] for row in rows]
            if position > 1 or aggregation == "token_mean":
                out[name][index] = np.concatenate(steps).mean()
            elif aggregation == "sequence_mean":
                out[name][index] = np.mean([trajectory.mean() for trajectory in steps])
            else:
                out[name][index] = sum(trajectory.sum() for trajectory in steps) / (len(steps) * horizon)
    group_losses = (out["policy_loss"] + kl_coef * out["kl"])[counted]
    lengths = where.sum(-1)
    return SimpleNamespace(
        loss=group_losses.sum() / max(counted.sum(), 1),
        num_valid=(lengths > 0).sum(-1),
        num_steps=lengths.sum(-1),
        **out,
    )


def _policy_ratio(log_probs, behaviour, advantages, *, level, shape, aggregation, where, weights=None, **options):
    """Loss of each group, its slopes in the log-probabilities, and metrics, as a namespace; trajectory by trajectory.

    `options` are `low` and `high`, `temperatures`, or `kernels`.
    """
    *shape_of_groups, _, horizon = log_probs.shape
    losses, slopes = np.zeros(shape_of_groups), np.zeros(log_probs.shape)
    held, ratios = np.zeros(log_probs.shape), np.zeros(log_probs.shape)
    for index in np.ndindex(*shape_of_groups):
        lengths = where[index].sum(-1)
        counts = {"token_mean": lengths.sum(), "constant": (lengths > 0).sum() * horizon}
        for k in np.flatnonzero(lengths):
            at = (*index, k, where[index][k])
            share = (
                1 / (lengths[k] * (lengths > 0).sum()) if aggregation == "sequence_mean" else 1 / counts[aggregation]
            )
            shares = np.full(lengths[k], share) * (1 if weights is None else weights[at])
            loss, slope, held[at], ratios[at] = _policy_ratio_of_one(
                log_probs[at], behaviour[at], advantages[index][k], shares, level, shape, **options
            )
            losses[index] += loss
            slopes[at] = slope
    steps = np.maximum(where.sum((-2, -1)), 1)
    log_ratios = np.where(where, log_probs - behaviour, 0)
    return SimpleNamespace(
        losses=losses,
        slopes=slopes,
        clip_fraction=held.sum((-2, -1)) / steps,
        approx_kl=(np.exp(log_ratios) - 1 - log_ratios).sum((-2, -1)) / steps,
        mean_ratio=ratios.sum((-2, -1)) / steps,
        num_valid=where.any(-1).sum(-1),
        num_steps=where.sum((-2, -1)),
    )


def _policy_ratio_of_one(theta, beta, advantage, shares, level, shape, low=0, high=0, temperatures=None, kernels=None):
    """Of one trajectory's valid steps: its loss, slopes, what is held, and ratios."""
    n, d, nothing = theta.size, theta - beta, np.zeros(theta.size, bool)
    if shape == "vespo":
        power, rate = kernels[0 if advantage >= 0 else 1]
        ratio = np.exp(d.sum())
        factors = -advantage * shares * ratio**power * np.exp(rate - rate * ratio)
        return (factors * theta).sum(), factors, nothing, np.full(n, ratio)
    held = nothing
    if level == "geometric_mean":
        bounded = d.copy()
        if shape == "clip":
            held = np.exp(d) > 1 + high if advantage > 0 else (np.exp(d) < 1 - low) & (advantage < 0)
            bounded[held] = np.log(1 + high if advantage > 0 else 1 - low)
        loss = -advantage * np.exp(bounded.mean()) * shares.sum()
        return loss, np.where(held, 0, loss / n), held, np.full(n, np.exp(d.mean()))
    ratio = np.exp(d) if level == "token" else np.full(n, np.exp(d.mean()))
    if shape == "cispo":
        weight = np.clip(ratio, 1 - low, 1 + high)
        factors = -advantage * shares * weight
        return (factors * theta).sum(), factors, weight != ratio, ratio
    if shape == "clip":
        gains = np.minimum(ratio * advantage, np.clip(ratio, 1 - low, 1 + high) * advantage)
        held = gains < ratio * advantage
        loss, slope = -gains, np.where(held, 0, -ratio * advantage)
    elif shape == "sapo":
        temperature = temperatures[0 if advantage > 0 else 1]
        gate = 1 / (1 + np.exp(-temperature * (ratio - 1)))
        loss, slope = -4 / temperature * gate * advantage, -4 * gate * (1 - gate) * ratio * advantage
    else:
        loss = slope = -ratio * advantage
    slope = shares * slope
    return (shares * loss).sum(), slope if level == "token" else np.full(n, slope.sum() / n), held, ratio


def _ranking(ratios, returns, beta, where):
    """Minus the log-likelihood of each group's ranking, and its slopes in the log-ratios; draws from the best down."""
    losses, slopes = np.zeros(ratios.shape[:-1]), np.zeros(ratios.shape)
    for index, group in _vectors(ratios):
        valid = np.flatnonzero(where[index])
        for i in valid:
            left = [i] + [j for j in valid if returns[index][j] < returns[index][i]]
            chances = np.exp(beta * group[left])
            chances /= chances.sum()
            losses[index] -= np.log(chances[0])
            slopes[index][left] += beta * chances
            slopes[index][i] -= beta
    return losses, slopes


def _gvpo(ratios, returns, beta, where):
    """Loss of each group and its slopes: of all pairs, whose squares add up to M times the variance."""
    losses, slopes = np.zeros(ratios.shape[:-1]), np.zeros(ratios.shape)
    for index, group in _vectors(ratios):
        valid = np.flatnonzero(where[index])
        number = max(len(valid), 1)
        for i in valid:
            for j in valid:
                error = beta * (group[i] - group[j]) - (returns[index][i] - returns[index][j])
                losses[index] += error**2 / (4 * number * max(number - 1, 1))
                slopes[index][i] += beta * error / (number * max(number - 1, 1))
    return losses, slopes


def _vmpo(log_likelihoods, advantages, eta, bound, share, where):
    """The policy's and the temperature's loss of each group, its slope, and the weights."""
    shape = log_likelihoods.shape[:-1]
    out = SimpleNamespace(policy=np.zeros(shape), dual=np.zeros(shape), slope=np.zeros(shape))
    out.weights = np.zeros(log_likelihoods.shape)
    for index, group in _vectors(advantages):
        ranked = sorted(group[where[index]], reverse=True)
        if not ranked:
            continue
        least = ranked[int(np.ceil(share * len(ranked) - 1e-9)) - 1]
        best = where[index] & (group >= least)
        powers = np.exp(group[best] / eta)
        w = powers / powers.sum()
        out.weights[index][best] = w
        out.policy[index] = -(w * log_likelihoods[index][best]).sum()
        out.dual[index] = eta * (bound + np.log(powers.mean()))
        out.slope[index] = bound - (w * np.log(w * best.sum())).sum()
    return out


def _dpo(chosen, rejected, reference_chosen, reference_rejected, *, beta, label_smoothing, where):
    """Loss and metrics, as a namespace, from the valid pairs alone."""
    up, down = (chosen - reference_chosen)[where], (rejected - reference_rejected)[where]
    margins = up - down
    preferred = 1 / (1 + np.exp(-beta * margins))
    losses = -(1 - label_smoothing) * np.log(preferred) - label_smoothing * np.log(1 - preferred)
    return SimpleNamespace(
        loss=losses.mean(),
        accuracy=(margins > 0).mean(),
        margin=margins.mean(),
        chosen_reward=beta * up.mean(),
        rejected_reward=beta * down.mean(),
        num_pairs=where.sum(),
    )


def _preference_pairs(returns, pairs, where):
    out = np.zeros((*returns.shape, returns.shape[-1]), bool)
    for index, group in _vectors(returns):
        valid = [int(k) for k in np.flatnonzero(where[index])]
        found = [(i, j) for i in valid for j in valid if group[i] > group[j]]
        if pairs == "best_worst" and found:
            found = [(max(valid, key=lambda k: (group[k], -k)), min(valid, key=lambda k: (group[k], k)))]
        for i, j in found:
            out[index][i, j] = True
    return out
