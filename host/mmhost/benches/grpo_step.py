"""One GRPO step of a nano vision-language model in TRL, for comparison with `grpo_step.rs`.

Needs torch, transformers and trl 1.16 (PyPI). Usage: grpo_step.py MODEL_FOLDER IMAGE [STEPS]
MODEL_FOLDER is written by `mmhost model init`. Prints the seconds of each step after the first, one a line.

16 prompts x 8 rollouts of 48 new tokens, one image each, f32, two threads, no KL term, one update per batch: what the Rust side runs.
"""

import os
import sys
import tempfile
import time

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("WANDB_DISABLED", "true")

import torch
from datasets import Dataset
from PIL import Image
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

PROMPTS, ROLLOUTS, NEW_TOKENS = 16, 8, 48


class StepClock(TrainerCallback):
    """Seconds of each optimiser step, rollouts included."""

    def __init__(self):
        self.seconds, self.begin = [], None

    def on_step_begin(self, *args, **kwargs):
        self.begin = time.perf_counter()

    def on_step_end(self, *args, **kwargs):
        self.seconds.append(time.perf_counter() - self.begin)


def main():
    folder, image_path = sys.argv[1], sys.argv[2]
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    torch.set_num_threads(2)
    processor = AutoProcessor.from_pretrained(folder)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    # A random model would end a rollout early now and then: every rollout shall have all its tokens.
    model.generation_config.eos_token_id = None
    image = Image.open(image_path).convert("RGB")
    rows = {
        "prompt": [[{"role": "user", "content": "What is the capital of this country?"}]] * PROMPTS * (steps + 1),
        "image": [image] * PROMPTS * (steps + 1),
    }
    clock = StepClock()
    trainer = GRPOTrainer(
        model=model,
        processing_class=processor,
        reward_funcs=lambda completions, **_: [float(len(str(c)) % 7) for c in completions],
        train_dataset=Dataset.from_dict(rows),
        callbacks=[clock],
        args=GRPOConfig(
            output_dir=tempfile.mkdtemp(),
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=PROMPTS * ROLLOUTS,
            num_generations=ROLLOUTS,
            max_completion_length=NEW_TOKENS,
            temperature=1.0,
            beta=0.0,
            max_steps=steps,
            logging_steps=1000,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
    )
    trainer.train()
    for seconds in clock.seconds[1:]:
        print(f"{seconds:.4f}")


if __name__ == "__main__":
    main()
