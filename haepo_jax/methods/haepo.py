"""HAEPO: several gradient steps on the HAEPO loss of one batch, then the reference moves."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from haepo_jax import components
from haepo_jax.errors import ConfigError
from haepo_jax.fields import (
    choice,
    component,
    count,
    number,
    static_arguments,
    traced_arguments,
)
from haepo_jax.losses import (
    GROUPINGS,
    NORMALIZATIONS,
    PROJECTIONS,
    SCORES,
    TARGETS,
    haepo_loss,
    mean_over_groups,
    trajectory_scores,
)
from haepo_jax.losses.reductions import ReduceFn
from haepo_jax.methods import haepo_segments
from haepo_jax.methods.multipliers import make_dual, make_meta, make_policy_dual
from haepo_jax.methods.record import Adaptation, Group, Method, Objective, OnLanguage, Sees, make_scalars
from haepo_jax.methods.schedules import CONSTANT, SCHEDULE, with_schedules
from haepo_jax.methods.settings import (
    REFERENCES,
    Chosen,
    EpochsConfig,
    HistoryConfig,
    JointConfig,
    ReferenceConfig,
    SegmentConfig,
    SegmentPlan,
    check_reference_acts,
    why_normalization_is_unit_free,
)
from haepo_jax.types import Metrics

DUAL = "dual"
OF_BATCH, OVER_BATCHES = ("fixed", "ess"), (DUAL, "meta")
"""How sharpness, entropy and the reference's strength are set: by the batch alone, or by what earlier ones gave."""

_SCORE = "haepo.score"


@with_schedules
@dataclasses.dataclass(frozen=True)
class HaepoLossConfig:
    """The HAEPO loss."""

    score: str = component("log_ratio", SCORES)
    """What of each episode makes its weight: the `sum` of its log-probabilities, their `mean`, the `log_ratio` to
    the policy that played it, or `package.module:attribute`, a function of the log-likelihoods `[..., M]` and the
    `haepo_jax.methods.Group` that gives scores `[..., M]`."""
    score_kwargs: Mapping[str, Any] = static_arguments()
    """Arguments of a score from outside that decide the program."""
    score_params: Mapping[str, float] = traced_arguments()
    """Arguments of a score from outside that may vary, and be swept, within one program."""
    normalization: str = choice("zscore", NORMALIZATIONS)
    """How the group's returns are brought to one scale: `zscore`, by their `sum`, or `none`."""
    temperature: float = number(1.0, above=0.0)
    """What scores are divided by before they make weights; the larger, the more even the weights."""
    projection: str = choice("reverse", PROJECTIONS)
    """Which divergence from the target's weights the loss lowers: `reverse`, that of the weights from the target's,
    which is the paper's loss; or `forward`, that of the target's from the weights."""
    target: str = choice("boltzmann", TARGETS, only_with={"projection": PROJECTIONS[1:]})
    """How a return counts in the target's weights: `boltzmann`, exponentially; or `linear`, by how far it is above a
    baseline, which prefers what is risky less."""
    adapt: str = choice("fixed", OF_BATCH)
    """How the sharpness b of the target is set: `fixed` by entropy_coef + kl_coef, or for each group by `ess`, so that
    the returns pick a target_effective_sample_size of it; entropy_coef and kl_coef are then shares of b."""
    target_effective_sample_size: float = number(0.5, above=0.0, high=0.99, only_with={"adapt": ("ess",)})
    """Rho: how many of a group's trajectories its returns pick, as a share of all; 0.05 keeps the best few, 0.9 nearly
    all. The target is then the same for rewards in any unit."""
    entropy_coef: float = number(5e-3, low=0.0)
    """Beta: weight of the entropy of the weights, which the loss raises. With adapt `ess` its ratio to kl_coef alone
    counts: b times entropy_coef / (entropy_coef + kl_coef) is the weight."""
    kl_coef: float = number(5e-3, low=0.0)
    """Lambda: weight of the divergence from the reference policy's weights, which the loss lowers. With adapt `ess`
    the rest of b is its weight."""


@with_schedules
@dataclasses.dataclass(frozen=True)
class HaepoConfig(EpochsConfig, HistoryConfig, JointConfig, HaepoLossConfig, ReferenceConfig, SegmentConfig):
    """HAEPO on an environment, where whole episodes compete, or segments of them.

    The defaults that differ from those of the loss are of the one setting for every task (docs/method.md).
    """

    temperature: float = number(4.0, above=0.0)
    projection: str = choice("forward", PROJECTIONS)
    target: str = choice("linear", TARGETS, only_with={"projection": PROJECTIONS[1:]})
    kl_coef: float = number(0.0, low=0.0)
    reference: str = choice("none", REFERENCES)
    history: int = count(7, low=0)
    num_epochs: int = count(4, low=1)
    """Gradient steps on each batch of episodes; with segments, times that an update goes through them."""
    adapt: str = choice("ess", OF_BATCH + OVER_BATCHES)
    """How the weights of the entropy and of the KL are set, whose sum is the temperature b of the target: `fixed` by
    entropy_coef and kl_coef. `ess` sets b for each batch, so that its returns pick a target_effective_sample_size of
    it; entropy_coef and kl_coef are then shares of b. `dual` and `meta` begin with entropy_coef and kl_coef and move
    both after each batch: `dual` so that the weights keep a target_effective_sample_size and a target_kl, `meta` so
    that the next batch gains."""
    target_effective_sample_size: float = number(0.5, above=0.0, high=0.99, only_with={"adapt": ("ess", "dual")})
    """Rho, a share of the batch's trajectories. `ess`: how many its returns pick; 0.05 keeps the best few, 0.9 nearly
    all, whatever the unit of the rewards. `dual`: what the weights are worth at the last step on a batch."""
    target_kl: float = number(
        0.1,
        above=0.0,
        only_with={"adapt": ("dual",), "reference": REFERENCES[1:]},
    )
    """Divergence from the reference's weights that `dual` allows the weights at the last step on a batch, in nats."""
    dual_learning_rate: float = number(0.1, above=0.0, only_with={"adapt": ("dual",)})
    """The most by which the logarithm of a weight changes after a batch, with adapt `dual`."""
    meta_learning_rate: float = number(0.1, above=0.0, only_with={"adapt": ("meta",)})
    """The most by which the logarithm of a weight changes after a batch, with adapt `meta`."""
    segment_length: int | None = count(None, low=1)
    """H, the most steps of a segment: segments compete in the place of whole episodes, each by a return of its own;
    whole episodes when unset."""
    bootstrap: str = choice("none", haepo_segments.BOOTSTRAPS)
    """What stands for the rewards after a segment: `none`, so that its return is what came in it alone; or `value`, a
    value function that learns beside the policy and also says what was to be expected of the segment."""
    group_by: str = choice("minibatch", GROUPINGS)
    """Which segments compete: those of a `minibatch`, those that begin at one `time`, or those of a minibatch that
    begin in one `start_state`, for environments whose observations repeat."""
    segments_from: str = choice("continuing", haepo_segments.SOURCES)
    """What is cut into segments: `continuing`, num_steps steps in each of num_trajectories environments that carry on
    from update to update; or `episodes`, num_trajectories whole episodes."""
    num_steps: int = count(128, low=1)
    """S, the steps of an update in each environment, which are cut into segments."""
    num_minibatches: int = count(4, low=1)
    """Gradient steps of an epoch, each on its own share of an update's segments."""
    gae_lambda: float = number(0.95, low=0.0, high=1.0)
    """What counts beyond a segment, with bootstrap `value`: 0 the value of the state that it leads to, 1 what came
    after it to the end of the update's steps; for segments of one step the decay of generalised advantages."""
    critic: str = choice("own", haepo_segments.CRITICS)
    """The network of the value function, with bootstrap `value`: one of its `own`, or the policy's torso, `shared`,
    with another head."""
    value_coef: float = number(0.5, low=0.0)
    """Weight of the value function's loss, with bootstrap `value`."""
    policy_entropy_coef: float = number(0.01, low=0.0)
    """Weight of the policy's entropy, which the loss of segments raises."""
    segment_temperature: float = number(1.0, above=0.0)
    """What the scores of segments are divided by before they make weights."""
    segment_projection: str = choice("reverse", PROJECTIONS)
    """As `projection`, for segments."""
    segment_adapt: str = choice("dual", haepo_segments.ADAPTS)
    """How b is set for segments: `fixed` and `ess` as in `adapt`; `dual` as `ess`, and larger where updates have moved
    the policy by more than target_policy_kl."""
    target_policy_kl: float = number(0.01, above=0.0, only_with={"segment_adapt": ("dual",)})
    """Divergence of the policy from the one that played an update's segments, in nats a step as the last epoch finds
    it, above which segment_adapt `dual` flattens the target."""

    @property
    def segment_plan(self) -> SegmentPlan | None:
        """How segments are cut and played; None for whole episodes."""
        if self.segment_length is None:
            return None
        return SegmentPlan(
            length=self.segment_length,
            by_time=self.group_by == "time",
            by_state=self.group_by == "start_state",
            has_critic=self.bootstrap == "value",
            shares_torso=self.critic == "shared",
            carries_on=self.segments_from == "continuing",
        )


@with_schedules
@dataclasses.dataclass(frozen=True)
class HaepoLanguageConfig(HaepoLossConfig):
    """HAEPO on language models, where a prompt's responses compete and the reference policy is the fine-tuned one."""

    adapt: str = choice("fixed", (*OF_BATCH, DUAL))
    """How the weights of the entropy and of the KL are set, whose sum is the sharpness b of the target: `fixed` by
    entropy_coef and kl_coef. `ess` sets b for each group, so that the returns pick a target_effective_sample_size of
    it; entropy_coef and kl_coef are then shares of b. `dual` begins with both and moves them after each update, so
    that the weights keep a target_effective_sample_size and a target_kl."""
    target_effective_sample_size: float = number(0.5, above=0.0, high=0.99, only_with={"adapt": ("ess", DUAL)})
    """Rho, a share of a group's responses. `ess`: how many its returns pick; 0.05 keeps the best few, 0.9 nearly all,
    whatever the unit of the rewards. `dual`: what the weights are worth at the last epoch, averaged over groups."""
    target_kl: float = number(0.1, above=0.0, only_with={"adapt": (DUAL,)})
    """Divergence from the reference's weights that `dual` allows the weights at the last epoch, in nats a group."""
    dual_learning_rate: float = number(0.1, above=0.0, only_with={"adapt": (DUAL,)})
    """The most by which the logarithm of a weight changes after an update, with adapt `dual`."""


def objective(settings: HaepoLossConfig, group: Group, reference_log_likelihoods: jax.Array | None) -> Objective:
    """Makes HAEPO's loss of log-likelihoods `[..., M]`, with the metrics of its record.

    `returns_sum_not_positive` is 1 where `sum` normalisation had to drop the returns.
    """
    return _objective(settings, group, reference_log_likelihoods, mean_over_groups)


def _objective(
    settings: HaepoLossConfig, group: Group, reference_log_likelihoods: jax.Array | None, reduce_fn: ReduceFn
) -> Objective:
    scores = _scores(settings, group)
    reference_scores = None if reference_log_likelihoods is None else scores(reference_log_likelihoods)
    kl_coef = 0 if reference_scores is None else settings.kl_coef
    total = settings.entropy_coef + kl_coef
    kl_share = jnp.where(total > 0, kl_coef / jnp.where(total > 0, total, 1), 0)

    def loss_of(log_likelihoods: jax.Array) -> tuple[jax.Array, Metrics]:
        loss, terms = haepo_loss(
            scores(log_likelihoods),
            group.returns,
            reference_scores,
            entropy_coef=settings.entropy_coef,
            kl_coef=kl_coef,
            temperature=settings.temperature,
            normalization=settings.normalization,
            projection=settings.projection,
            target=settings.target if settings.projection == "forward" else "boltzmann",
            target_effective_sample_size=settings.target_effective_sample_size if settings.adapt == "ess" else None,
            reduce_fn=reduce_fn,
            where=group.valid,
        )
        metrics = {
            "effective_sample_size": terms.effective_sample_size,
            "max_weight": terms.max_weight,
            "weights_entropy": terms.entropy,
            "weights_kl": terms.kl,
            "returns_sum_not_positive": terms.returns_sum_not_positive,
            "target_temperature": terms.target_temperature,
            "target_effective_sample_size": terms.target_effective_sample_size,
            "entropy_weight": terms.target_temperature * (1 - kl_share),
            "kl_weight": terms.target_temperature * kl_share,
        }
        if group.valid is not None and group.valid.ndim > 1:  # not of groups without a segment
            metrics = {name: _mean_where(values, terms.num_valid > 0) for name, values in metrics.items()}
        return loss, make_scalars(metrics)

    return loss_of


def _mean_where(values: jax.Array, valid: jax.Array) -> jax.Array:
    """Averages over the groups that are valid; 0 if none is."""
    return jnp.sum(jnp.where(valid, values, 0)) / jnp.maximum(jnp.sum(valid), 1)


def _scores(settings: HaepoLossConfig, group: Group) -> Callable[[jax.Array], jax.Array]:
    """Makes scores `[..., M]` of log-likelihoods `[..., M]`, by a built-in score or one from outside."""
    if not components.is_outside(settings.score):
        return functools.partial(
            trajectory_scores,
            kind=settings.score,
            lengths=group.lengths,
            behaviour_log_likelihoods=group.behaviour_log_likelihoods,
        )
    outside = components.load(_SCORE, settings.score)
    arguments = {"kwargs": settings.score_kwargs, "params": settings.score_params}

    def scores_of(log_likelihoods: jax.Array) -> jax.Array:
        found = components.call(_SCORE, outside, log_likelihoods, group, **arguments)
        scores = components.checked_numbers(
            f"config.{_SCORE} {settings.score}",
            found,
            log_likelihoods.shape,
            f"real numbers of the shape of the log-likelihoods, {log_likelihoods.shape}",
            real=True,
        )
        return scores.astype(log_likelihoods.dtype)

    return scores_of


def _check(chosen: Chosen) -> None:
    check_reference_acts(chosen)
    settings: HaepoConfig = chosen.settings
    in_segments = settings.segment_length is not None
    _check_target(chosen, of="segment_" if in_segments else "")
    if in_segments:
        haepo_segments.check(chosen)
    elif settings.adapt in OVER_BATCHES:
        _check_multipliers(chosen)
    if components.is_outside(settings.score):
        swept = {name.removeprefix("score_params."): values[0] for name, values in chosen.swept.items() if "." in name}
        components.check_arguments(
            _SCORE,
            components.load(_SCORE, settings.score),
            positional=2,
            kwargs=settings.score_kwargs,
            params={**settings.score_params, **swept},
        )


def _check_target(chosen: Chosen, of: str = "") -> None:
    """Refuses a forward projection without a temperature; `of` begins the names of settings of segments."""
    settings: HaepoLossConfig = chosen.settings
    is_fixed = getattr(settings, f"{of}adapt") == "fixed"
    if getattr(settings, f"{of}projection") == "forward" and is_fixed and _may_both_be_0(chosen):
        raise ConfigError(
            f"{chosen.where('entropy_coef')} 0 with kl_coef 0 leaves the target of projection forward without a "
            f"temperature, which is their sum; set one of them above 0, or {chosen.where(f'{of}adapt')} to ess."
        )


def _check_multipliers(chosen: Chosen) -> None:
    settings: Any = chosen.settings
    where = f"{chosen.where('adapt')} {settings.adapt}"
    weights = ["entropy_coef"] + ["kl_coef"] * _has_reference(settings)
    for name in weights:
        if 0 in chosen.values(name):
            can_go = name == "kl_coef" and isinstance(settings, ReferenceConfig)
            remedy = ", or reference to none" if can_go else ""
            raise ConfigError(
                f"{where} begins with {chosen.where(name)} and multiplies it, so that 0 would stay 0; set it above "
                f"0{remedy}."
            )
    for name in weights:
        if name in chosen.changed:
            raise ConfigError(
                f"{where} begins with {chosen.where(name)} and moves it itself, so that population-based training "
                f"would change it in vain; name other settings in config.pbt.perturb, or set {chosen.where('adapt')} "
                f"to {' or '.join(OF_BATCH)}."
            )
        schedule = name + SCHEDULE
        if getattr(settings, schedule) != CONSTANT:
            raise ConfigError(
                f"{where} moves {chosen.where(name)} itself, so that it takes no schedule; set "
                f"{chosen.where(schedule)} to {CONSTANT}."
            )
    acts = settings.adapt == "meta" and settings.projection == "forward"
    num_epochs = settings.num_epochs if chosen.steps_of_batch is None else chosen.steps_of_batch
    if settings.score == "log_ratio" and num_epochs == 1 and not acts:
        raise ConfigError(
            f"{where} learns from the weights at the last step on a batch, which are all equal with score log_ratio "
            f"and {chosen.where('num_epochs')} 1; take at least 2 epochs, or another score."
        )


def _may_both_be_0(chosen: Chosen) -> bool:
    return 0 in chosen.values("entropy_coef") and 0 in chosen.values("kl_coef")


def _check_on_language(chosen: Chosen) -> None:
    _check_target(chosen)
    if chosen.settings.adapt in OVER_BATCHES:
        _check_multipliers(chosen)


def _has_reference(settings: HaepoLossConfig) -> bool:
    """Returns whether there is a reference policy, which language models always have."""
    return not isinstance(settings, ReferenceConfig) or settings.reference != "none"


def _make_adaptation(settings: HaepoLossConfig) -> Adaptation | None:
    if settings.adapt in OF_BATCH:
        return None
    make = {DUAL: make_dual, "meta": make_meta}[settings.adapt]
    return make(has_reference=_has_reference(settings))


def _of_segments(
    settings: HaepoConfig, group: Group, reference_log_likelihoods: jax.Array | None, reduce_fn: ReduceFn
) -> Objective:
    """Makes the objective of segments, whose sharpness has settings of its own."""
    own = dataclasses.replace(
        settings,
        temperature=settings.segment_temperature,
        projection=settings.segment_projection,
        target="boltzmann",
        adapt=settings.segment_adapt,
    )
    return _objective(own, group, reference_log_likelihoods, reduce_fn)


def _make_policy_dual(settings: HaepoConfig) -> Adaptation | None:
    if settings.segment_adapt != "dual":
        return None
    return make_policy_dual(haepo_segments.make_group, haepo_segments.POLICY_KL)


@functools.cache
def _in_segments(*, has_critic: bool, by_state: bool) -> Method:
    metrics = (*METHOD.metrics, haepo_segments.POLICY_KL, *(("value_loss",) if has_critic else ()))
    return dataclasses.replace(
        METHOD,
        objective=haepo_segments.make_objective(_of_segments),
        sees=Sees.SEGMENTS,
        metrics=metrics,
        why_unit_free=None if has_critic else METHOD.why_unit_free,
        extra_memory=haepo_segments.BY_STATE if by_state else None,
        adaptation=_make_policy_dual,
        language=None,
    )


def _choose_record(settings: HaepoConfig) -> Method:
    plan = settings.segment_plan
    return METHOD if plan is None else _in_segments(has_critic=plan.has_critic, by_state=plan.by_state)


def _upgrade(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of before these could be chosen."""
    chosen_later: dict[str, Any] = {"projection": "reverse", "target": "boltzmann", "adapt": "fixed"}
    if "reference" in settings:  # those of an environment; language models have no earlier batches
        chosen_later["history"] = 0
    return chosen_later | dict(settings)


METHOD = Method(
    objective,
    Sees.SUMS,
    HaepoConfig(),
    metrics=(
        *("effective_sample_size", "max_weight", "weights_entropy", "weights_kl", "returns_sum_not_positive"),
        *("target_temperature", "target_effective_sample_size", "entropy_weight", "kl_weight"),
    ),
    check=_check,
    upgrade=_upgrade,
    why_unit_free=why_normalization_is_unit_free,
    adaptation=_make_adaptation,
    variant=_choose_record,
    unread=haepo_segments.find_unread,
    language=OnLanguage(HaepoLanguageConfig(), named_by=("score",), check=_check_on_language),
)
