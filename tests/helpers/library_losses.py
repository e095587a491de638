"""What TRL, verl and OpenRLHF compute on one batch, for `tests/losses/test_library_parity.py`.

Needs nothing of haepo_jax: any interpreter that has torch and one of these libraries can run it.

    python library_losses.py BATCH OUTPUTS

reads the arrays of BATCH, an .npz in float64, and writes OUTPUTS, an .npz with LIBRARY/CASE/value and, of a loss,
LIBRARY/CASE/slopes by the log-probabilities; the versions, LIBRARY/version; and of a library that is not here
LIBRARY/missing, a sentence. Every case is the library's own function, with the settings of SETTINGS. TRL's losses are
methods of its trainers: they get an object that holds what the method reads, log-probabilities among them, in place of
a trainer with a model.
"""

import collections
import contextlib
import importlib
import importlib.metadata
import importlib.util
import sys
import types

import numpy as np

SETTINGS = {
    "clip": 0.2,
    "high": 0.28,
    "sequence_low": 0.1,
    "sequence_high": 0.15,
    "largest_weight": 5.0,
    "log_clip": 0.4,
    "temperatures": (1.0, 1.05),
    "kernels": ((2.0, 3.0), (3.0, 2.0)),
    "kl_coef": 0.04,
    "max_steps": 8,
    "importance": (0.5, 2.0),
    "beta": 0.3,
    "smoothing": 0.1,
    "margin": 0.5,
    "weights": (1.3, 0.7),
    "value_clip": 0.2,
    "discount": 0.9,
    "gae_lambda": 0.8,
}
"""What the losses are called with, here and in the test."""
TRL_EPSILON, VERL_EPSILON = 1e-4, 1e-6
"""What they add to the standard deviation of a group's returns."""
NO_DUAL_CLIP = 1e9
"""verl's bound on the ratios of negative advantages, which it has besides, at 3 by default; here there is none."""


def _tensor(array):
    import torch

    return torch.tensor(np.asarray(array))


def _differentiate(loss_of, array):
    """Value and slopes of a loss of log-probabilities."""
    variable = _tensor(array).requires_grad_()
    value = loss_of(variable)
    value.backward()
    return {"value": value.item(), "slopes": variable.grad.numpy()}


def _empty_the_first(mask):
    import torch

    return torch.cat([0 * mask[:1], mask[1:]])


def _constant(values):
    return {"value": values.numpy()}


def _make_trl(batch):
    import torch
    from transformers import logging
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.gmpo import GMPOTrainer
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.grpo_trainer import GRPOTrainer
    from trl.trainer.kto_trainer import KTOTrainer
    from trl.trainer.rloo_trainer import RLOOTrainer

    logging.set_verbosity_error()
    own, mask = SETTINGS, _tensor(batch["where"]).double()
    low, high = own["importance"]
    rows, steps = mask.shape
    itself = types.SimpleNamespace(
        device="cpu",
        num_processes=1,
        process_index=0,
        sync_gradients=True,
        gather=lambda value: value,
        gather_for_metrics=lambda value: value,
        reduce=lambda value, reduction: value,
    )
    (positive, negative), (of_gain, of_loss) = own["temperatures"], own["kernels"]
    args = types.SimpleNamespace(
        delta=None,
        use_bias_correction_kl=False,
        sapo_temperature_pos=positive,
        sapo_temperature_neg=negative,
        vespo_k_pos=of_gain[0],
        vespo_lambda_pos=of_gain[1],
        vespo_k_neg=of_loss[0],
        vespo_lambda_neg=of_loss[1],
        steps_per_generation=1,
        gradient_accumulation_steps=1,
        gradient_checkpointing_kwargs=None,
        per_device_train_batch_size=rows,
    )
    every = {
        "model": types.SimpleNamespace(training=True, is_gradient_checkpointing=False),
        "accelerator": itself,
        "args": args,
        "aux_loss_enabled": False,
        "_metrics": collections.defaultdict(lambda: collections.defaultdict(list)),
    }

    def of_steps(loss_type, trainer=GRPOTrainer, importance=None, mask=mask, **changes):
        holds = every | {
            "loss_type": loss_type,
            "importance_sampling_level": "token",
            "epsilon_low": own["clip"],
            "epsilon_high": own["clip"],
            "beta": 0.0,
            "top_entropy_quantile": 1.0,
            "off_policy_mask_threshold": None,
            "use_vllm": importance is not None,
            "vllm_importance_sampling_correction": True,
            "current_gradient_accumulation_steps": 1,
            "max_completion_length": own["max_steps"],
            "_entropy_bonus_enabled": False,
            "get_gamma_weights": GRPOTrainer.get_gamma_weights,
        }
        inputs = {
            "prompt_ids": torch.zeros(rows, 1),
            "prompt_mask": torch.ones(rows, 1),
            "completion_ids": torch.zeros(rows, steps),
            "completion_mask": mask,
            "advantages": _tensor(batch["advantages"]),
            "old_per_token_logps": _tensor(batch["behaviour"]),
            "ref_per_token_logps": _tensor(batch["reference"]),
            "num_items_in_batch": mask.sum(),
            "importance_sampling_ratio": importance,
        }

        def loss_of(log_probs):
            evaluate = {"_get_per_token_logps_and_entropies": lambda *args, **kwargs: (log_probs, 0 * mask, None)}
            return trainer._compute_loss(types.SimpleNamespace(**(holds | changes | evaluate)), None, inputs)

        return _differentiate(loss_of, batch["log_probs"])

    def score(trainer, mode="token_truncate", **changes):
        """Advantages and importance weights, of completions that are said to have been generated."""
        ids = [[1] * int(length) for length in mask.sum(-1)]
        sampled = [row[: len(own_ids)].tolist() for row, own_ids in zip(batch["sampler"], ids, strict=True)]
        generated = [[0]] * rows, ids, [""] * rows
        holds = every | {
            "environment_factories": None,
            "environments": None,
            "tools": None,
            "_generate": lambda prompts: (
                generated if trainer is RLOOTrainer else (*generated[:2], None, [""] * rows, sampled, {}, None, None)
            ),
            "_tokenizer": types.SimpleNamespace(pad_token_id=0),
            "pad_to_multiple_of": None,
            "mask_truncated_completions": False,
            "num_iterations": 1,
            "use_vllm": True,
            "vllm_importance_sampling_correction": True,
            "vllm_importance_sampling_mode": mode,
            "vllm_importance_sampling_clip_min": low,
            "vllm_importance_sampling_clip_max": high,
            "beta": 0.0,
            "_get_per_token_logps_and_entropies": lambda *args, **kwargs: (_tensor(batch["behaviour"]), None, None),
            "_calculate_rewards": lambda *args: _tensor(batch["returns"]).reshape(-1, 1),
            "num_generations": batch["returns"].shape[-1],
            "reward_weights": torch.ones(1),
            "reward_clip_range": None,
            "normalize_advantages": False,
            "multi_objective_aggregation": "sum_then_normalize",
            "scale_rewards": "group",
            "reward_func_names": ["own"],
            "_logs": collections.defaultdict(lambda: collections.defaultdict(list))
            | {name: [] for name in ("prompt", "completion", "advantages")},
            "_pending_extra_logs": {},
            "_pending_metrics": {},
        }
        given = [{"prompt": ""} for _ in range(rows)]
        return trainer._generate_and_score_completions(types.SimpleNamespace(**(holds | changes)), given)

    def of_sequences(trainer, loss_type, inputs, **changes):
        holds = every | {
            "beta": own["beta"],
            "loss_type": loss_type,
            "loss_types": [loss_type],
            "loss_weights": [1.0],
            "label_smoothing": 0.0,
            "f_divergence_type": "reverse_kl",
            "ld_alpha": None,
            "use_weighting": False,
            "precompute_ref_logps": True,
            "_total_train_tokens": 0,
            "_tp_size": 1,
            "desirable_weight": own["weights"][0],
            "undesirable_weight": own["weights"][1],
            "_compute_kl_logps": lambda *args: _tensor(batch["kl_log_likelihoods"]),
        }
        shifted = torch.cat([torch.zeros(rows, 1), mask], dim=1)
        inputs |= {"input_ids": torch.zeros(rows, steps + 1).long(), "attention_mask": 0 * shifted + 1}

        def loss_of(log_probs):
            made = {name: 0 * mask for name in ("entropy", "mean_logits")} | {"is_top1": mask.bool()}
            outputs = types.SimpleNamespace(log_probs=log_probs * mask, **made)
            self = types.SimpleNamespace(**(holds | changes))
            return trainer._compute_loss(self, lambda **_: outputs, inputs | {"completion_mask": shifted}, False)

        return _differentiate(loss_of, batch["log_probs"])

    def of_pairs(loss_type):
        chosen, rejected = (_tensor(batch["reference"]) * mask).sum(-1).chunk(2)
        return of_sequences(DPOTrainer, loss_type, {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected})

    def of_labels(loss_type):
        inputs = {"label": _tensor(batch["desirable"]), "ref_logps": (_tensor(batch["reference"]) * mask).sum(-1)}
        inputs["ref_KL_logps"] = _tensor(batch["kl_reference"])
        return of_sequences(KTOTrainer, loss_type, inputs, calculate_KL=loss_type == "kto")

    def simpo(log_probs):
        holds = {"accelerator": itself, "alpha": 0.0, "loss_type": "simpo", "label_smoothing": 0.0}
        self = types.SimpleNamespace(beta=own["beta"], simpo_gamma=own["margin"], **holds)
        return CPOTrainer.cpo_loss(self, *((log_probs * mask).sum(-1) / mask.sum(-1)).chunk(2))[0].mean()

    def rloo(log_probs):
        evaluate = {"_get_per_token_logps_and_entropies": lambda *args, **kwargs: (log_probs, 0 * mask, None)}
        self = types.SimpleNamespace(**(every | evaluate), epsilon_low=own["clip"], epsilon_high=own["clip"])
        names = ("prompt_ids", "prompt_mask", "completion_ids")
        inputs = dict.fromkeys(names, mask) | {"completion_mask": mask}
        inputs["old_logps"] = (log_probs.detach() * mask).sum(-1)
        inputs["advantages"] = score(RLOOTrainer)["advantages"]
        return RLOOTrainer._compute_loss(self, None, inputs)

    truncated = score(GRPOTrainer)["importance_sampling_ratio"]
    upper = {"epsilon_high": own["high"]}
    wide = {"epsilon_low": own["log_clip"], "epsilon_high": own["log_clip"]}
    of_means = {"epsilon_low": own["sequence_low"], "epsilon_high": own["sequence_high"]}
    yield "grpo", of_steps("grpo")
    yield "grpo_of_an_empty_response", of_steps("grpo", mask=_empty_the_first(mask))
    yield "grpo_kl", of_steps("grpo", beta=own["kl_coef"])
    yield "dr_grpo", of_steps("dr_grpo")
    yield "dapo", of_steps("dapo", **upper)
    yield "dapo_weighed", of_steps("dapo", importance=truncated, **upper)
    yield "gspo", of_steps("grpo", importance_sampling_level="sequence", **of_means)
    yield "gmpo", of_steps("gmpo", GMPOTrainer, **wide)
    yield "cispo", of_steps("cispo", epsilon_high=own["largest_weight"])
    yield "sapo", of_steps("sapo")
    yield "vespo", of_steps("vespo")
    unbounded = {"vllm_importance_sampling_clip_min": None, "vllm_importance_sampling_clip_max": None}
    free = score(GRPOTrainer, "token_mask", **unbounded)["importance_sampling_ratio"]
    yield "vespo_of_the_sampler", of_steps("vespo", importance=free)
    yield "dpo", of_pairs("sigmoid")
    yield "ipo_of_means", of_pairs("ipo")
    yield "simpo", _differentiate(simpo, batch["log_probs"])
    yield "kto", of_labels("kto")
    yield "kto_of_the_reference", of_labels("apo_zero_unpaired")
    yield "rloo", _differentiate(rloo, batch["log_probs"])
    yield "group_relative_advantages", _constant(score(GRPOTrainer)["advantages"])
    yield "group_relative_advantages_unscaled", _constant(score(GRPOTrainer, scale_rewards="none")["advantages"])
    yield "leave_one_out_advantages", _constant(score(RLOOTrainer)["advantages"])
    for level in ("token", "sequence"):
        for mode in ("truncate", "mask"):
            weights = score(GRPOTrainer, f"{level}_{mode}")["importance_sampling_ratio"]
            yield f"importance_{level}_{mode}", _constant(weights.expand(rows, steps) * mask)


def _make_verl(batch):
    import torch
    from verl.trainer.ppo import core_algos
    from verl.trainer.ppo.rollout_corr_helper import compute_rollout_correction_weights
    from verl.workers.config import ActorConfig

    own, mask = SETTINGS, _tensor(batch["where"]).double()
    low, high = own["importance"]
    behaviour, advantages = _tensor(batch["behaviour"]), _tensor(batch["advantages"])[:, None].expand(mask.shape)
    log_ratio = behaviour - _tensor(batch["sampler"])
    bounds = {"clip_ratio": own["clip"], "clip_ratio_low": own["clip"], "clip_ratio_high": own["clip"]}

    def config_of(**changes):
        defaults = {
            "strategy": "fsdp",
            "ppo_micro_batch_size_per_gpu": 1,
            "rollout_n": 1,
            "clip_ratio_c": NO_DUAL_CLIP,
        }
        return ActorConfig(**(defaults | bounds | changes))

    def of_steps(name, mode, weights=None, advantages=advantages, kl_coef=0.0, scale=None, mask=mask, **changes):
        config = config_of(**changes)
        if scale is not None:
            config.global_batch_info["loss_scale_factor"] = scale

        def loss_of(log_probs):
            given = behaviour, log_probs, advantages, mask, mode
            loss, _ = core_algos.get_policy_loss_fn(name)(*given, config=config, rollout_is_weights=weights)
            if kl_coef:
                penalty = core_algos.kl_penalty(log_probs, _tensor(batch["reference"]), "low_var_kl")
                loss = loss + kl_coef * core_algos.agg_loss(penalty, mask, mode)
            return loss

        return _differentiate(loss_of, batch["log_probs"])

    def correct(level, threshold):
        return compute_rollout_correction_weights(log_ratio, mask, level, threshold)[0]

    def value_loss(values):
        of_batch = (_tensor(batch[name]) for name in ("targets", "behaviour_values"))
        return core_algos.compute_value_loss(values, *of_batch, mask, own["value_clip"])[0]

    def estimate(name, where=mask, **options):
        at_the_end = torch.zeros_like(where)
        at_the_end[range(len(where)), where.sum(-1).long() - 1] = _tensor(batch["returns"]).ravel()
        index = np.repeat(np.arange(len(batch["returns"])), batch["returns"].shape[-1])
        arrays = {"token_level_rewards": at_the_end, "response_mask": where, "index": index}
        found, _ = core_algos.get_adv_estimator_fn(name)(**arrays, **options)
        return _constant(found[:, 0])

    whiten = {"config": types.SimpleNamespace(gamma=1.0)}
    upper = {"clip_ratio_high": own["high"]}
    capped = correct("token", high)
    yield "grpo", of_steps("vanilla", "seq-mean-token-mean")
    yield "grpo_of_an_empty_response", of_steps("vanilla", "seq-mean-token-mean", mask=_empty_the_first(mask))
    yield "grpo_kl", of_steps("vanilla", "seq-mean-token-mean", kl_coef=own["kl_coef"])
    yield "dr_grpo", of_steps("vanilla", "seq-mean-token-sum-norm", scale=own["max_steps"])
    yield "dapo", of_steps("vanilla", "token-mean", **upper)
    yield "dapo_capped", of_steps("vanilla", "token-mean", capped, **upper)
    yield "ppo", of_steps("vanilla", "token-mean", advantages=_tensor(batch["step_advantages"]))
    of_means = {"clip_ratio_low": own["sequence_low"], "clip_ratio_high": own["sequence_high"]}
    yield "gspo", of_steps("gspo", "seq-mean-token-mean", **of_means)
    wide = {"clip_ratio_low": own["log_clip"], "clip_ratio_high": own["log_clip"]}
    yield "gmpo", of_steps("geo_mean", "seq-mean-token-mean", **wide)
    weight = {"clip_ratio_low": 1.0, "clip_ratio_high": own["largest_weight"] - 1}
    yield "cispo", of_steps("cispo", "token-mean", **weight)
    positive, negative = own["temperatures"]
    yield "sapo", of_steps("sapo", "seq-mean-token-mean", tau_pos=positive, tau_neg=negative)
    yield "value", _differentiate(value_loss, batch["values"])
    yield "group_relative_advantages", estimate("grpo", epsilon=VERL_EPSILON)
    yield "group_relative_advantages_unscaled", estimate("grpo", norm_adv_by_std_in_grpo=False)
    yield "leave_one_out_advantages", estimate("rloo")
    whole = torch.ones_like(mask)
    yield "reinforce_plus_plus_advantages", estimate("reinforce_plus_plus", **whiten)
    yield "reinforce_plus_plus_advantages_of_equal_lengths", estimate("reinforce_plus_plus", whole, **whiten)
    yield "reinforce_plus_plus_advantages_with_a_baseline", estimate("reinforce_plus_plus_baseline", whole)
    arrays = (_tensor(batch[name]) for name in ("rewards", "behaviour_values"))
    _, returns = core_algos.compute_gae_advantage_return(*arrays, mask, own["discount"], own["gae_lambda"])
    yield "generalized_returns", _constant(returns * mask)
    for level in ("token", "sequence"):
        yield f"importance_{level}_cap", _constant(correct(level, high))
        yield f"importance_{level}_mask", _constant(correct(level, f"{low}_{high}"))


def _make_openrlhf(batch):
    # The package imports attention kernels of a GPU; its file of losses needs none of them.
    for name in ("openrlhf", "openrlhf.models"):
        _enter_without_running(name)
    losses = importlib.import_module("openrlhf.models.loss")
    own, mask = SETTINGS, _tensor(batch["where"]).double()
    behaviour, advantages = _tensor(batch["behaviour"]), _tensor(batch["advantages"])[:, None].expand(mask.shape)

    def of_steps(*, advantages=advantages, low=own["clip"], high=own["clip"], mask=mask, **options):
        module = losses.PolicyLoss(low, high, **options)
        sampler = _tensor(batch["sampler"])
        return _differentiate(
            lambda log_probs: module(log_probs, behaviour, advantages, mask, rollout_log_probs=sampler)[0],
            batch["log_probs"],
        )

    def of_pairs(**options):
        def loss_of(log_probs):
            pairs = (
                sums for array in (log_probs, _tensor(batch["reference"])) for sums in (array * mask).sum(-1).chunk(2)
            )
            return losses.DPOLoss(own["beta"], **options)(*pairs)[0]

        return _differentiate(loss_of, batch["log_probs"])

    def value_loss(values):
        of_batch = (_tensor(batch[name]) for name in ("behaviour_values", "targets"))
        return losses.ValueLoss(own["value_clip"])(values, *of_batch, mask)

    corrected = {"is_correction_threshold": own["importance"], "high": own["high"]}
    yield "grpo", of_steps(token_level_loss=False)
    yield "grpo_of_an_empty_response", of_steps(token_level_loss=False, mask=_empty_the_first(mask))
    yield "dapo", of_steps(high=own["high"])
    yield "dapo_weighed", of_steps(is_correction_level="token", is_correction_mode="clip", **corrected)
    yield "dapo_masked", of_steps(is_correction_level="token", is_correction_mode="mask", **corrected)
    yield "dapo_masked_by_means", of_steps(is_correction_level="seq", is_correction_mode="mask", **corrected)
    yield "ppo", of_steps(advantages=_tensor(batch["step_advantages"]))
    yield "gspo", of_steps(low=own["sequence_low"], high=own["sequence_high"], policy_loss_type="gspo")
    yield "dpo", of_pairs()
    yield "dpo_smoothed", of_pairs(label_smoothing=own["smoothing"])
    yield "ipo", of_pairs(ipo=True)
    yield "value", _differentiate(value_loss, batch["values"])


def _enter_without_running(name):
    """Makes a package whose modules can be imported, without what its `__init__` imports."""
    parent, _, child = name.rpartition(".")
    if parent:
        folders = [f"{folder}/{child}" for folder in sys.modules[parent].__path__]
    else:
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r}")
        folders = list(spec.submodule_search_locations)
    package = types.ModuleType(name)
    package.__path__ = folders
    sys.modules[name] = package


LIBRARIES = {"trl": _make_trl, "verl": _make_verl, "openrlhf": _make_openrlhf}


def main(given, written):
    import torch

    torch.set_default_dtype(torch.float64)
    batch, outputs = dict(np.load(given)), {}
    for library, make in LIBRARIES.items():
        try:
            with contextlib.redirect_stdout(sys.stderr):
                found = dict(make(batch))
        except ImportError as error:
            outputs[f"{library}/missing"] = f"{type(error).__name__}: {error}"
            continue
        outputs[f"{library}/version"] = importlib.metadata.version(library)
        outputs |= {f"{library}/{case}/{name}": of for case, values in found.items() for name, of in values.items()}
    np.savez(written, **outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
