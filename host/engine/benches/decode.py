"""Batched decode: the local engine against transformers' `generate`, same shapes, same machine, alternating in one run.

Needs torch and transformers; builds the Rust side with cargo unless `--binary` names it.

    python host/engine/benches/decode.py [--rounds 7] [--greedy]

64 sequences, prompts of 64 tokens, 128 new tokens each, drawn at temperature 1 from the full vocabulary; decoder of vocabulary
2,048, width 256, 4 layers, 8 query and 4 key-value heads, SwiGLU 704, float32. transformers runs a Qwen2 decoder, which is the
language model of Qwen2.5-VL without the work that M-RoPE adds; prefill is inside both times, and the engine also returns the
log-probability of every token.
"""

import argparse
import json
import statistics
import subprocess
import time
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

SEQUENCES, PROMPT, NEW, VOCAB = 64, 64, 128, 2048


def build() -> str:
    """Path of the benchmark's executable."""
    command = ["cargo", "build", "--release", "-p", "mmhost-engine", "--bench", "decode", "--message-format=json"]
    root = Path(__file__).resolve().parents[3]
    for line in subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "decode":
            return message["executable"]
    raise SystemExit("cargo named no executable for the benchmark `decode`")


def reference(greedy: bool):
    """A function that runs one round in transformers and returns its seconds."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCAB, hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=4, tie_word_embeddings=True, bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )
    model = Qwen2ForCausalLM(config).eval()
    prompts = torch.randint(0, 2000, (SEQUENCES, PROMPT))
    mask = torch.ones_like(prompts)
    how = {"do_sample": False} if greedy else {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}

    def run() -> float:
        begin = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(prompts, attention_mask=mask, max_new_tokens=NEW, min_new_tokens=NEW, **how)
        assert out.shape == (SEQUENCES, PROMPT + NEW), out.shape
        return time.perf_counter() - begin

    run()
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--greedy", action="store_true", help="let transformers decode greedily, which saves it the drawing")
    parser.add_argument("--binary", help="the benchmark's executable, built before")
    options = parser.parse_args()

    engine = subprocess.Popen([options.binary or build(), "--ask"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ours() -> float:
        engine.stdin.write("\n")
        engine.stdin.flush()
        return float(engine.stdout.readline())

    theirs = reference(options.greedy)
    tokens = SEQUENCES * NEW
    pairs = []
    for i in range(options.rounds):
        pair = (ours(), theirs())
        pairs.append(pair)
        print(f"round {i}: engine {tokens / pair[0]:7.0f} tokens/s, transformers {tokens / pair[1]:7.0f} tokens/s", flush=True)
    engine.stdin.close()
    engine.wait()
    a, b = (statistics.median(tokens / p[i] for p in pairs) for i in (0, 1))
    ratio = statistics.median(p[1] / p[0] for p in pairs)
    print(f"median: engine {a:.0f} tokens/s, transformers {b:.0f} tokens/s on {torch.get_num_threads()} threads; ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
