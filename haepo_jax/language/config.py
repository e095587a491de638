"""Every setting of a language-model run, with its default and what it may be: the one place to add one.

A stage reads its own section and those that it builds on (`stage_settings`), so that tuning one stage leaves
the run folders of the others valid.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ml_collections

from haepo_jax.components import is_outside
from haepo_jax.config import OptimizerConfig, from_mapping, to_config_dict
from haepo_jax.config.checks import check_own_settings
from haepo_jax.config.meanings import Setting, settings_of
from haepo_jax.config.method import (
    STATIC_GROUP,
    TRACED_GROUP,
    get_own_settings,
    load_method,
    name_method,
    name_own_setting,
    with_all_settings,
)
from haepo_jax.config.reads import unread_arguments, unread_by_choices
from haepo_jax.config.settings import MAX_SEED
from haepo_jax.errors import ConfigError, quoted, suggestion
from haepo_jax.fields import (
    choice,
    component,
    count,
    leaves,
    number,
    optional_number,
    static_arguments,
    traced_arguments,
)
from haepo_jax.language.prompt_settings import PromptSettings
from haepo_jax.language.reward_settings import ResponseSettings, RewardFunctionSettings
from haepo_jax.language.rewards.functions import name_short
from haepo_jax.losses import IMPORTANCE_MODES, LEVELS
from haepo_jax.methods import LANGUAGE_METHODS, Chosen, LanguageMethodSettings, Method, OnLanguage
from haepo_jax.methods.schedules import Scheduled, find_scheduled, find_unread_schedules
from haepo_jax.runtime.precision import DEFAULT, PRECISIONS

ON_LANGUAGE = {name: method.language for name, method in LANGUAGE_METHODS.items() if method.language is not None}
"""The methods that learn on language models, by name."""
FAMILIES = ("llama", "qwen2", "qwen3", "gpt_neox")
DTYPES = ("float32", "bfloat16")
DEMONSTRATIONS = ("openai_tldr", "trl_tldr")
COMPARISONS = ("openai_comparisons", "trl_tldr_preference")
PROMPTS = ("generated", "openai_tldr")
GRADIENTS = ("smallest", "one_shot", "two_pass")
POOLINGS = ("sum", "mean", "last")
REWARD_MODEL = "reward_model"
"""The reward model among the names of what gives rewards."""
MOST, MOST_LAYERS = 2**24, 10_000
"""Of the sizes of a model, and of its layers: far above those of any model that exists."""
LARGEST = 1e30
"""Of a model's numbers, so that float32 holds what is computed from them."""
_SIZES = ("family", "hidden_size", "num_layers", "num_heads", "num_kv_heads", "intermediate_size", "rope_theta")
_LONGEST_NAME = 200  # bytes; file systems take 255, and files are written under longer names for a while


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The decoder: a Hugging Face folder, or sizes of one that starts from random parameters."""

    path: str = ""
    """Folder with `config.json`, `*.safetensors` and `tokenizer.json`, or of an adapter in PEFT's format, which is
    added to the model that it names; when empty, the sizes below."""
    tokenizer: str = ""
    """Folder with the `tokenizer.json` of a model that starts from random parameters on data of one's own."""
    family: str = choice("qwen3", FAMILIES)
    """Architecture of the decoder."""
    hidden_size: int = count(64, low=2, high=MOST)
    """Width of the residual stream; an even multiple of `num_heads`."""
    num_layers: int = count(2, low=1, high=MOST_LAYERS)
    """Layers of attention and feed-forward network."""
    num_heads: int = count(4, low=1, high=MOST)
    """Heads of attention."""
    num_kv_heads: int = count(2, low=1, high=MOST)
    """Heads of keys and values, which groups of heads share; divides `num_heads`."""
    intermediate_size: int = count(256, low=1, high=MOST)
    """Width of the feed-forward network."""
    rope_theta: float = number(10_000.0, above=0.0, high=LARGEST, traced=False)
    """Base of the wavelengths of the rotary positions."""
    dtype: str = choice("float32", DTYPES)
    """Dtype of the computation; softmax, losses and gradients stay float32."""
    frozen_dtype: str = choice("float32", DTYPES)
    """Dtype in which parameters that are not trained are held: the reference policy, the reward model, and what an
    adapter adapts. Trained ones are float32."""
    remat: bool = False
    """Keep only the layers' inputs for the gradient."""
    adapter_rank: int = count(0, low=0, high=MOST)
    """Rank of the LoRA adapters that are trained instead of the parameters; 0 trains all parameters. The reference
    policy is then the model with its adapters switched off, and takes no memory of its own."""
    adapter_alpha: float = number(16.0, above=0.0, traced=False)
    """Scale of adapters, over their rank."""


@dataclasses.dataclass(frozen=True)
class DataConfig(PromptSettings):
    """Where posts, summaries and comparisons, or one's own prompts come from; the generated task without a path."""

    demonstrations: str = ""
    """File, folder or pattern of posts with reference summaries: `sft` learns from them, `rl` takes their posts."""
    held_out_demonstrations: str = ""
    """Those whose posts a run is watched by meanwhile."""
    test_demonstrations: str = ""
    """Those whose posts the stage `evaluate` judges all policies by."""
    demonstrations_schema: str = choice("openai_tldr", DEMONSTRATIONS)
    """How the files of demonstrations are laid out."""
    comparisons: str = ""
    """File, folder or pattern of comparisons, for `reward` and for DPO."""
    held_out_comparisons: str = ""
    """Those that the reward model is judged by."""
    comparisons_schema: str = choice("openai_comparisons", COMPARISONS)
    """How the files of comparisons are laid out."""
    prompt: str = choice("generated", PROMPTS)
    """The format of prompts, and the lengths that they and responses are brought to."""
    num_held_out: int = count(500, low=1)
    """Most posts, and most comparisons, of those that are not trained on."""


@dataclasses.dataclass(frozen=True)
class SftConfig:
    """Supervised fine-tuning on reference summaries."""

    num_steps: int = count(1500, low=1)
    """Gradient steps."""
    batch_size: int = count(32, low=1)
    """Posts of a step."""
    microbatch: int = count(0, low=0)
    """Posts whose gradient is computed at a time, to the same gradient of the whole batch; 0 for all."""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=3e-3, schedule="cosine", max_grad_norm=1.0)


@dataclasses.dataclass(frozen=True)
class RewardConfig:
    """The reward model: Bradley-Terry on comparisons, from the fine-tuned model."""

    num_steps: int = count(1000, low=1)
    """Gradient steps."""
    batch_size: int = count(32, low=1)
    """Comparisons of a step."""
    microbatch: int = count(0, low=0)
    """Comparisons whose gradient is computed at a time, to the same gradient of the whole batch; 0 for all."""
    adapter_rank: int = count(0, low=0, high=MOST)
    """Rank of the LoRA adapters that are trained beside the score, instead of the decoder's parameters; 0 trains all
    parameters."""
    adapter_alpha: float = number(16.0, above=0.0, traced=False)
    """Scale of these adapters, over their rank."""
    pooling: str = choice("sum", POOLINGS)
    """How a response's score comes from those of its tokens: their `sum`, `mean`, or the `last` token's."""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-3, schedule="cosine", max_grad_norm=1.0)


@dataclasses.dataclass(frozen=True)
class ImportanceConfig:
    """Weights of tokens for what sampling and training make of the same policy differently."""

    level: str = choice("none", ("none", *LEVELS))
    """Which ratio of trainer to sampler is a token's weight: its own (`token`), the whole response's (`sequence`), or
    that of the response's mean token (`geometric_mean`). `none` weighs nothing, and takes the sampler's
    log-likelihoods for those of the policy before the update; else these are computed once more, as the trainer
    does."""
    mode: str = choice("truncate", IMPORTANCE_MODES)
    """What becomes of a weight beyond the bounds: `truncate` puts it on the bound, `mask` makes it 0."""
    low: float | None = optional_number(above=0.0)
    """Lower bound of the weights; none when unset."""
    high: float = number(2.0, above=0.0, traced=False)
    """Upper bound of the weights."""


@dataclasses.dataclass(frozen=True)
class RlConfig(ResponseSettings, RewardFunctionSettings):
    """Learning from reward functions or the reward model, or by some methods from the comparisons themselves."""

    num_updates: int = count(80, low=1)
    """Updates of the run."""
    num_prompts: int = count(8, low=1)
    """Groups of an update, or its comparisons."""
    num_samples: int = count(8, low=2)
    """M, the responses to each prompt, which compete with one another."""
    num_epochs: int = count(2, low=1)
    """Gradient steps on each batch."""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=3e-4, schedule="linear", max_grad_norm=1.0)
    temperature: float = number(1.0, above=0.0, traced=False)
    """Divides logits, when responses are sampled and when they are learnt from."""
    top_p: float = number(1.0, above=0.0, high=1.0, traced=False)
    """Share of the probability that the tokens to sample from hold, the likeliest first. Below 1, no KL divergence
    can be had from the samples: none is reported, and none may be penalised."""
    missing_eos_penalty: float = number(1.0, low=0.0, traced=False)
    """Taken off the reward of a response that does not end within its length."""
    kl_penalty: float = number(0.05, low=0.0, traced=False)
    """Taken off the reward for each nat of log pi - log pi_sft of the response; not with comparisons."""
    importance: ImportanceConfig = ImportanceConfig()
    evaluate_every: int = count(10, low=0)
    """Updates between two looks at the held-out posts; 0 for none."""
    min_reward_accuracy: float = number(0.75, low=0.0, high=1.0, traced=False)
    """`rl` refuses a reward model whose held-out accuracy is below this."""
    gradient: str = choice("smallest", GRADIENTS)
    """`two_pass` goes `microbatch` responses at a time; `smallest` takes what needs less memory at these shapes."""
    microbatch: int = count(8, low=0)
    """Responses whose gradient, or score, is computed at a time. 0 takes as many as memory holds, which is fastest,
    and with `smallest` one pass where it fits."""
    chunk_size: int = count(0, low=0)
    """Tokens whose logits exist at a time; 0 for all of a microbatch."""


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How the stage `evaluate` lets policies answer."""

    temperature: float | None = optional_number(low=0.0)
    """Divides logits when answers are sampled; 0 takes the likeliest token each time. That of training when unset."""
    num_samples: int = count(1, low=1)
    """Answers to each prompt."""


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How the devices share the work: `fsdp` of them hold one copy of the parameters, the rest of them copies."""

    fsdp: int = count(1, low=1)
    """Devices that hold one copy of the parameters together."""


@dataclasses.dataclass(frozen=True)
class _General:
    """What does not belong to a method; it stands first in the config."""

    seed: int = count(0, low=0, high=MAX_SEED)
    """Seed of the run."""
    precision: str = choice(DEFAULT, PRECISIONS)
    """Of matrix products of float32: `float32`, or the device's `default`, which is TF32 on GPUs, bfloat16 on TPUs and
    float32 on CPUs, unless the flag `jax_default_matmul_precision` of JAX says otherwise."""
    name: str = ""
    """Of the run of stage `rl`; when empty, its algorithm, score and seed."""
    algorithm: str = component("haepo", tuple(ON_LANGUAGE))
    """The method of the stage `rl`; the settings of the others are then not read. Or `package.module:attribute`."""
    algorithm_kwargs: Mapping[str, Any] = static_arguments(hold_groups=True)
    """Settings of a method from outside that decide the program."""
    algorithm_params: Mapping[str, float] = traced_arguments()
    """Settings of a method from outside that may vary within one program on environments."""
    sft_path: str = ""
    """Hugging Face folder of the fine-tuned policy; when empty, what the stage `sft` made."""
    reward_path: str = ""
    """Hugging Face folder of the reward model; when empty, what the stage `reward` made."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    sft: SftConfig = SftConfig()
    reward: RewardConfig = RewardConfig()
    rl: RlConfig = RlConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    mesh: MeshConfig = MeshConfig()


@dataclasses.dataclass(frozen=True)
class LanguageConfig(LanguageMethodSettings, _General):
    """Everything that decides the numbers of a language-model run."""


def get_method(config: LanguageConfig) -> Method[Any]:
    """Returns the record of the method of stage `rl`."""
    return load_method(config.algorithm)


def get_language_rules(config: LanguageConfig) -> OnLanguage[Any]:
    """Returns how the method of stage `rl` learns on language models.

    Raises:
      ConfigError: one from outside that does not.
    """
    found = get_method(config).language
    if found is None:
        raise ConfigError(
            f"config.algorithm {name_method(config)} does not learn on language models: its record has no `language`."
        )
    return found


def get_method_settings(config: LanguageConfig) -> Any:
    """Returns the settings of the method of stage `rl`."""
    return get_own_settings(config, get_language_rules(config).settings)


def get_group_size(config: LanguageConfig) -> int:
    """Counts the responses that the stage `rl` compares with one another."""
    return 2 if get_language_rules(config).comparisons else config.rl.num_samples


def default_config() -> ml_collections.ConfigDict:
    """Makes the default configuration as a ConfigDict, for a `get_config` to change and flags to override."""
    return to_config_dict(LanguageConfig())


def from_config_dict(values: Mapping[str, Any]) -> LanguageConfig:
    """Makes and validates the frozen configuration.

    Args:
      values: a ConfigDict, or nested dictionaries as in `config.json`; missing fields take their defaults.

    Raises:
      ConfigError: an unknown field, a value of the wrong kind or out of its bounds, or settings that make no
        sense together.
    """
    config = from_mapping(LanguageConfig(), dict(values))
    config = with_all_settings(config, get_language_rules(config).settings)
    _check_combinations(config)
    return config


def setting_names() -> list[str]:
    """Lists every setting by its dotted name."""
    return [name for name, _, _ in leaves(LanguageConfig())]


def settings() -> Iterator[Setting]:
    """Yields every setting with its meaning; there are no sweeps over them."""
    return (setting._replace(is_swept=False) for setting in settings_of(LanguageConfig()))


def stage_settings(config: LanguageConfig, stage: str) -> dict[str, Any]:
    """Makes the `config.json` of a stage's folder: the settings that the stage reads, as nested dictionaries."""
    of_method = (STATIC_GROUP, TRACED_GROUP) if is_outside(config.algorithm) else (config.algorithm,)
    sections = {
        "sft": ("model", "data", "sft", "mesh"),
        "reward": ("sft_path", "model", "data", "reward", "mesh"),
        "rl": ("sft_path", "reward_path", "algorithm", *of_method, "model", "data", "reward", "rl", "mesh"),
    }[stage]
    everything = dataclasses.asdict(config)
    return {name: everything[name] for name in ("seed", "precision", *sections) if name in everything}


def unread(config: LanguageConfig) -> dict[str, str]:
    """Finds the settings that no stage reads, by dotted name, each with the reason: as `config_reads.unread` does."""
    reasons = unread_arguments(config) | {
        name: f"config.algorithm is {name_method(config)}"
        for name in setting_names()
        if name.partition(".")[0] in ON_LANGUAGE and name.partition(".")[0] != config.algorithm
    }
    reasons |= unread_by_choices(config, get_language_rules(config).settings)
    if get_language_rules(config).comparisons:
        of_samples = ("rl.kl_penalty", "rl.missing_eos_penalty", "rl.importance.level")
        why = f"config.algorithm is {name_method(config)}, which learns from comparisons"
        reasons |= dict.fromkeys(of_samples, why)
    reasons |= _find_unread_data(config) | _find_unread_rewards(config)
    if config.model.path:
        reasons |= {f"model.{name}": "config.model.path gives the model" for name in ("tokenizer", *_SIZES)}
    elif is_generated(config.data):
        reasons["model.tokenizer"] = "the generated task has a tokenizer of its own"
    for section in ("model", "reward"):
        if not getattr(config, section).adapter_rank:
            reasons[f"{section}.adapter_alpha"] = f"config.{section}.adapter_rank is 0"
    if config.rl.importance.level == "none":
        reasons |= {f"rl.importance.{name}": "config.rl.importance.level is none" for name in ("mode", "low", "high")}
    return reasons | find_unread_schedules(get_method_settings(config), _make_name_of(config), (), reasons)


def _find_unread_data(config: LanguageConfig) -> dict[str, str]:
    own = ("prompt_column", "completion_column", "long_prompts")
    if not has_own_prompts(config.data):
        return {f"data.{name}": "config.data.prompts is empty" for name in own}
    tldr = ("demonstrations_schema", "prompt")
    reasons = {f"data.{name}": "the prompts are those of config.data.prompts" for name in tldr}
    if not config.data.held_out_prompts:
        reasons["rl.evaluate_every"] = "config.data.held_out_prompts is empty"
    return reasons


def _find_unread_rewards(config: LanguageConfig) -> dict[str, str]:
    every = [field.name for field in dataclasses.fields(RewardFunctionSettings)]
    if get_language_rules(config).comparisons:
        names = ["sampling_parts", *(field.name for field in dataclasses.fields(ResponseSettings))]
        why = f"config.algorithm is {name_method(config)}, which learns from comparisons"
        return {f"rl.{name}": why for name in names}
    if not config.rl.rewards:
        return {f"rl.{name}": "config.rl.rewards is empty" for name in every if name != "rewards"}
    if not config.reward_path:
        return {
            "rl.min_reward_accuracy": "config.rl.rewards gives the rewards, and config.reward_path no reward model"
        }
    return {}


def has_own_prompts(data: DataConfig) -> bool:
    """Returns whether the data are prompts of one's own, with any columns, rather than posts with summaries."""
    return bool(data.prompts or data.held_out_prompts or data.test_prompts)


def is_generated(data: DataConfig) -> bool:
    """Returns whether the data are the generated task, for want of any of one's own."""
    return not data.demonstrations and not has_own_prompts(data)


def is_judged_on_host(config: LanguageConfig) -> bool:
    """Returns whether updates of the stage `rl` stop for the host, to compute rewards or to write responses down."""
    return get_language_rules(config).comparisons is None and bool(config.rl.rewards or config.rl.write_samples_every)


def count_sampling_parts(config: LanguageConfig) -> int:
    """Counts the parts in which the prompts of an update of the stage `rl` are sampled."""
    return config.rl.sampling_parts if config.rl.rewards and is_judged_on_host(config) else 1


def has_reward_model(config: LanguageConfig) -> bool:
    """Returns whether responses are judged by the reward model, alone or beside reward functions."""
    return not config.rl.rewards or bool(config.reward_path)


def list_scheduled(config: LanguageConfig) -> tuple[Scheduled, ...]:
    """Lists the coefficients of the method of stage `rl` whose schedule is not constant."""
    settings = get_method_settings(config)
    return find_scheduled(settings, _make_name_of(config), lambda leaf: (getattr(settings, leaf),), unread(config))


def _make_name_of(config: LanguageConfig) -> Callable[[str], str]:
    return functools.partial(name_own_setting, config, get_language_rules(config).settings)


def name_run(config: LanguageConfig) -> str:
    """Names the folder of a run of stage `rl`.

    Example:
      >>> name_run(LanguageConfig(seed=3))
      'haepo-log_ratio-seed3'
    """
    settings = get_method_settings(config)
    named_by = [getattr(settings, name) for name in get_language_rules(config).named_by]
    return config.name or "-".join([config.algorithm, *named_by, f"seed{config.seed}"]).replace(":", ".")


def _check_combinations(config: LanguageConfig) -> None:
    check_own_settings(config, get_language_rules(config).settings, {})
    rules = get_language_rules(config)
    if rules.check is not None:
        settings, name_of = get_method_settings(config), _make_name_of(config)
        names = {leaf: name_of(leaf) for leaf, _, _ in leaves(settings)} | {"num_epochs": "rl.num_epochs"}
        rules.check(Chosen(settings, {}, names, get_group_size(config), steps_of_batch=config.rl.num_epochs))
    _check_rules(config, rules)
    for scheduled in list_scheduled(config):
        scheduled.check()
    model = config.model
    if not model.path:
        if model.hidden_size % model.num_heads or model.hidden_size // model.num_heads % 2:
            raise ConfigError(
                f"config.model.hidden_size {model.hidden_size} must be an even multiple of num_heads, "
                f"{model.num_heads}."
            )
        if model.num_heads % model.num_kv_heads:
            raise ConfigError(
                f"config.model.num_kv_heads {model.num_kv_heads} does not divide num_heads {model.num_heads}."
            )
    paths = (
        "demonstrations",
        "held_out_demonstrations",
        "test_demonstrations",
        "comparisons",
        "held_out_comparisons",
    )
    _check_name(config.name)
    _check_paths(config, paths)
    _check_rewards(config)
    if config.rl.top_p < 1.0 and not get_language_rules(config).comparisons:
        _check_penalties(config)
    for section in ("sft", "reward"):
        own = getattr(config, section)
        if own.microbatch > own.batch_size:
            raise ConfigError(
                f"config.{section}.microbatch {own.microbatch} is more than the {own.batch_size} rows of a step."
            )
    if config.rl.gradient != "two_pass":
        return
    rows = config.rl.num_prompts * get_group_size(config)
    if config.rl.microbatch > rows:
        raise ConfigError(
            f"config.rl.microbatch {config.rl.microbatch} is more than the {rows} responses of an update."
        )


def _check_paths(config: LanguageConfig, paths: Sequence[str]) -> None:
    """Refuses data that are given in part."""
    missing = [f"config.data.{name}" for name in paths if not getattr(config.data, name)]
    if not has_own_prompts(config.data):
        if 0 < len(missing) < len(paths):
            raise ConfigError(f"{' and '.join(missing)} must be given too, or none of them for the generated task.")
        return
    if empty := [name for name in ("prompt_column", "completion_column") if not getattr(config.data, name)]:
        raise ConfigError(f"config.data.{empty[0]} is empty; give the name of a column.")
    given = [f"config.data.{name}" for name in paths if getattr(config.data, name)]
    if posts := [name for name in given if "demonstrations" in name]:
        raise ConfigError(
            f"{posts[0]} and prompts of your own (config.data.prompts and its like) are two sources of prompts; give "
            "one of them."
        )
    if len(given) == 1:
        raise ConfigError(f"{given[0]} needs {next(name for name in missing if 'comparisons' in name)} too.")
    if given and config.data.comparisons_schema != "trl_tldr_preference":
        raise ConfigError(
            f"config.data.comparisons_schema {config.data.comparisons_schema} is of posts; comparisons beside prompts "
            "of your own have the fields prompt, chosen, rejected: give trl_tldr_preference."
        )


def _check_rewards(config: LanguageConfig) -> None:
    """Refuses reward functions that cannot be told apart, or whose settings do not fit them."""
    rl = config.rl
    names = [name_short(name) for name in rl.rewards]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(
            f"config.rl.rewards has two functions {twice[0]}, and metrics and arguments go by that name; give one of "
            "them another name."
        )
    if REWARD_MODEL in names:
        raise ConfigError(
            f"config.rl.rewards has a function {REWARD_MODEL}, and metrics and samples have what the reward model "
            "gives under that name; give the function another one."
        )
    if rl.reward_weights and len(rl.reward_weights) != len(names):
        raise ConfigError(
            f"config.rl.reward_weights has {len(rl.reward_weights)} numbers, and config.rl.rewards {len(names)} "
            "functions; give a number for each, or none for 1 each."
        )
    for name, arguments in rl.reward_kwargs.items():
        if name not in names and rl.rewards:
            raise ConfigError(
                f"config.rl.reward_kwargs.{name} is of no function of config.rl.rewards{suggestion(name, names)}"
            )
        if not isinstance(arguments, Mapping):
            raise ConfigError(
                f"config.rl.reward_kwargs.{name} is a group of arguments of that function, got {quoted(arguments)}."
            )
    if rl.num_prompts % rl.sampling_parts:
        raise ConfigError(
            f"config.rl.sampling_parts {rl.sampling_parts} does not divide config.rl.num_prompts {rl.num_prompts}."
        )


def _check_rules(config: LanguageConfig, rules: OnLanguage[Any]) -> None:
    """Refuses settings of the stage `rl` that the method has no use for, or could not learn with."""
    if rules.comparisons is not None:
        return
    name, importance = name_method(config), config.rl.importance
    if importance.level != "none" and not rules.weighs_steps:
        able = ", ".join(other for other, of_other in ON_LANGUAGE.items() if of_other.weighs_steps)
        raise ConfigError(
            f"config.rl.importance.level {importance.level} weighs tokens, which config.algorithm {name} does not "
            f"learn from one by one; set it to none, or choose one of {able}."
        )
    if importance.level != "none" and importance.low is not None and importance.low > importance.high:
        raise ConfigError(
            f"config.rl.importance.low {importance.low} is above config.rl.importance.high {importance.high}; it may "
            "be at most that."
        )
    taken_off = [f"config.rl.{name}" for name in ("kl_penalty", "missing_eos_penalty") if getattr(config.rl, name) > 0]
    if rules.wants_returns_from_0 and taken_off:
        raise ConfigError(
            f"{' and '.join(taken_off)} may make returns negative, and config.algorithm {name} learns from none that "
            f"are: set {' and '.join(taken_off)} to 0."
        )


def _check_name(name: str) -> None:
    """A run's name is a folder in `rl`, on any system, and one among the policies that are compared."""
    allowed = (
        "it names a folder and may hold no slash, backslash or control character, nor begin with a dot, nor begin or "
        "end with a space"
    )
    if set(name) & {"/", "\\"} or not name.isprintable() or name.startswith(".") or name != name.strip():
        raise ConfigError(f"config.name {name!r} cannot be used; {allowed}.")
    if len(name.encode()) > _LONGEST_NAME:
        raise ConfigError(f"config.name {name[:20]!r}... has {len(name.encode())} bytes, and at most {_LONGEST_NAME}.")
    if name == "sft":
        raise ConfigError("config.name 'sft' is how the fine-tuned policy is called where policies are compared.")
    if name == "model.path":
        raise ConfigError("config.name 'model.path' is how the first model is called where policies are compared.")


def _check_penalties(config: LanguageConfig) -> None:
    """Log-likelihoods of what `top_p` samples say nothing of the divergence of the policy itself."""
    penalties = {"config.rl.kl_penalty": config.rl.kl_penalty}
    of_method = get_language_rules(config).sampled_kl
    if of_method is not None:
        name = name_own_setting(config, get_language_rules(config).settings, of_method)
        penalties[f"config.{name}"] = getattr(get_method_settings(config), of_method)
    given = [name for name, value in penalties.items() if value > 0]
    if given:
        raise ConfigError(
            f"config.rl.top_p {config.rl.top_p} does not go with {' and '.join(given)}: samples from a part of the "
            f"policy's distribution say nothing true of its KL divergence; set {' and '.join(given)} to 0, or top_p "
            "to 1."
        )
