"""What PEFT makes of adapters, for `language/model/hugging_face/test_adapters.py`.

Needs nothing of haepo_jax: any interpreter that has torch, transformers and peft can run it.

    python peft_logits.py FOLDER

puts the adapter FOLDER/NAME/ours on the model FOLDER/NAME/base, and writes inputs and outputs to FOLDER/NAME/ours.npz;
and it makes a random adapter of a few modules, FOLDER/NAME/theirs, and does the same with it.
"""

import sys
from pathlib import Path

import numpy as np

MODELS = {
    "qwen3": {"target_modules": ["q_proj", "down_proj"], "r": 3, "lora_alpha": 6},
    "gpt_neox": {"target_modules": ["query_key_value", "dense"], "r": 4, "lora_alpha": 2, "use_rslora": True},
}
"""Of each model the adapter that is made of it here."""
NO_PEFT = 7
"""The exit code where peft is not installed."""


def main(folder):
    try:
        import peft
        import torch
        import transformers
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        sys.exit(NO_PEFT)

    torch.manual_seed(0)
    tokens = np.random.default_rng(0).integers(1, 19, size=(2, 7))
    for name, options in MODELS.items():
        for whose in ("ours", "theirs"):
            model = transformers.AutoModelForCausalLM.from_pretrained(folder / name / "base")
            if whose == "ours":
                model = peft.PeftModel.from_pretrained(model, folder / name / whose)
            else:
                model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **options))
                for path, parameter in model.named_parameters():
                    if "lora_" in path:
                        torch.nn.init.normal_(parameter, std=0.3)
                model.save_pretrained(folder / name / whose)
            with torch.no_grad():
                outputs = model.float().eval()(input_ids=torch.from_numpy(tokens)).logits.numpy()
            np.savez(folder / name / f"{whose}.npz", tokens=tokens, outputs=outputs)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
