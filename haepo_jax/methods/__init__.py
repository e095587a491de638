"""The methods that learn, a file each: its settings with their checks, its objective, its record.

A method of your own need not be here: see docs/components.md. To add one to these, write its file, and name it in
`MethodSettings` below.
"""

import dataclasses
from typing import Any

from haepo_jax.methods import (
    dpo,
    grpo,
    gvpo,
    haepo,
    ipo,
    kto,
    listwise,
    policy_ratio,
    ppo,
    reinforce,
    rloo,
    simpo,
    vmpo,
)
from haepo_jax.methods.dpo import DpoConfig, DpoLossConfig
from haepo_jax.methods.grpo import ADVANTAGE_SCALES, GrpoConfig, GrpoLossConfig
from haepo_jax.methods.gvpo import GvpoLossConfig
from haepo_jax.methods.haepo import HaepoConfig, HaepoLanguageConfig, HaepoLossConfig
from haepo_jax.methods.ipo import IpoLossConfig
from haepo_jax.methods.kto import KtoLossConfig
from haepo_jax.methods.listwise import ListwiseLossConfig
from haepo_jax.methods.policy_ratio import ClippedLossConfig, SapoLossConfig, VespoLossConfig
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
    make_language_section,
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
from haepo_jax.methods.simpo import SimpoLossConfig
from haepo_jax.methods.vmpo import VmpoLossConfig


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
    """Those that learn on language models by name, each with its settings there: a line a method.

    What is no built-in method of environments is one from outside there, such as
    `config.algorithm=haepo_jax.methods.policy_ratio:GSPO`.
    """

    haepo: HaepoLanguageConfig = make_language_section(haepo.METHOD)
    grpo: GrpoLossConfig = make_language_section(grpo.METHOD)
    rloo: NoSettings = make_language_section(rloo.METHOD)
    dpo: DpoLossConfig = make_language_section(dpo.METHOD)
    dr_grpo: ClippedLossConfig = make_language_section(policy_ratio.DR_GRPO)
    dapo: ClippedLossConfig = make_language_section(policy_ratio.DAPO)
    gspo: ClippedLossConfig = make_language_section(policy_ratio.GSPO)
    gmpo: ClippedLossConfig = make_language_section(policy_ratio.GMPO)
    cispo: ClippedLossConfig = make_language_section(policy_ratio.CISPO)
    sapo: SapoLossConfig = make_language_section(policy_ratio.SAPO)
    vespo: VespoLossConfig = make_language_section(policy_ratio.VESPO)
    reinforce_plus_plus: ClippedLossConfig = make_language_section(policy_ratio.REINFORCE_PLUS_PLUS)
    maxrl: ClippedLossConfig = make_language_section(policy_ratio.MAXRL)
    gvpo: GvpoLossConfig = make_language_section(gvpo.METHOD)
    vmpo: VmpoLossConfig = make_language_section(vmpo.METHOD)
    listwise: ListwiseLossConfig = make_language_section(listwise.METHOD)
    ipo: IpoLossConfig = make_language_section(ipo.METHOD)
    simpo: SimpoLossConfig = make_language_section(simpo.METHOD)
    kto: KtoLossConfig = make_language_section(kto.METHOD)


LANGUAGE_METHODS: dict[str, Method[Any]] = {
    field.name: field.metadata["method"] for field in dataclasses.fields(LanguageMethodSettings)
}
"""The built-in methods that learn on language models, by name."""


__all__ = [
    "ADVANTAGE_SCALES",
    "ALL",
    "JOINT",
    "LANGUAGE_METHODS",
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
    "HaepoLanguageConfig",
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
