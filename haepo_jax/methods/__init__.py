"""The methods that learn, a file each: its settings with their checks, its objective, its record.

A method of your own need not be here: see docs/components.md. To add one to these, write its file, and name it in
`MethodSettings` below.
"""

import dataclasses
from typing import Any

from haepo_jax.methods import dpo, grpo, haepo, ppo, reinforce, rloo
from haepo_jax.methods.dpo import DpoConfig, DpoLossConfig
from haepo_jax.methods.grpo import ADVANTAGE_SCALES, GrpoConfig, GrpoLossConfig
from haepo_jax.methods.haepo import HaepoConfig, HaepoLossConfig
from haepo_jax.methods.ppo import PpoConfig
from haepo_jax.methods.record import (
    Adaptation,
    Blocks,
    Evaluated,
    ExtraMemory,
    Group,
    Method,
    Objective,
    OnLanguage,
    Packed,
    PullBack,
    Samples,
    SeenBatch,
    Sees,
    StepGroup,
    count_gradient_steps,
    get_history,
    get_joint,
    get_reference_rule,
    get_segment_plan,
    make_scalars,
    make_section,
)
from haepo_jax.methods.reinforce import ReinforceConfig
from haepo_jax.methods.settings import (
    ALL,
    JOINT,
    REFERENCES,
    Chosen,
    EpochsConfig,
    HistoryConfig,
    JointConfig,
    NoSettings,
    ReferenceConfig,
    SegmentConfig,
    SegmentPlan,
    check_minibatches,
    check_reference_acts,
)


@dataclasses.dataclass(frozen=True)
class MethodSettings:
    """The built-in methods by name, each with its settings on environments: a line a method."""

    haepo: HaepoConfig = make_section(haepo.METHOD)
    ppo: PpoConfig = make_section(ppo.METHOD)
    grpo: GrpoConfig = make_section(grpo.METHOD)
    rloo: NoSettings = make_section(rloo.METHOD)
    dpo: DpoConfig = make_section(dpo.METHOD)
    reinforce: ReinforceConfig = make_section(reinforce.METHOD)


METHODS: dict[str, Method[Any]] = {
    field.name: field.metadata["method"] for field in dataclasses.fields(MethodSettings)
}
"""The built-in methods by name."""


@dataclasses.dataclass(frozen=True)
class LanguageMethodSettings:
    """Those of the built-in methods that learn on language models, each with its settings there: a line a method."""

    haepo: HaepoLossConfig = HaepoLossConfig()
    grpo: GrpoLossConfig = GrpoLossConfig()
    rloo: NoSettings = NoSettings()
    dpo: DpoLossConfig = DpoLossConfig()


__all__ = [
    "ADVANTAGE_SCALES",
    "ALL",
    "JOINT",
    "METHODS",
    "REFERENCES",
    "Adaptation",
    "Blocks",
    "Chosen",
    "DpoConfig",
    "DpoLossConfig",
    "EpochsConfig",
    "Evaluated",
    "ExtraMemory",
    "Group",
    "GrpoConfig",
    "GrpoLossConfig",
    "HaepoConfig",
    "HaepoLossConfig",
    "HistoryConfig",
    "JointConfig",
    "LanguageMethodSettings",
    "Method",
    "MethodSettings",
    "NoSettings",
    "Objective",
    "OnLanguage",
    "Packed",
    "PpoConfig",
    "PullBack",
    "ReferenceConfig",
    "ReinforceConfig",
    "Samples",
    "SeenBatch",
    "Sees",
    "SegmentConfig",
    "SegmentPlan",
    "StepGroup",
    "check_minibatches",
    "check_reference_acts",
    "count_gradient_steps",
    "get_history",
    "get_joint",
    "get_reference_rule",
    "get_segment_plan",
    "make_scalars",
]
