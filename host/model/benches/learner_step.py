"""One learner step of a nano decoder in PyTorch eager mode, f32, two threads: the counterpart of `learner_step.rs`.

Needs torch. Prints one line per step: seconds and loss. `--steps N` sets how many (default 8, after 2 for warming up), `--wait`
makes each step wait for a line on standard input, so that another program can take turns.
"""

import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

VOCAB, WIDTH, LAYERS, Q_HEADS, KV_HEADS, DIM, INNER = 2048, 256, 4, 8, 4, 32, 704
SEQUENCES, LENGTH = 32, 192


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention_norm = nn.RMSNorm(WIDTH, eps=1e-6)
        self.qkv = nn.Linear(WIDTH, (Q_HEADS + 2 * KV_HEADS) * DIM, bias=False)
        self.out = nn.Linear(Q_HEADS * DIM, WIDTH, bias=False)
        self.mlp_norm = nn.RMSNorm(WIDTH, eps=1e-6)
        self.gate_up = nn.Linear(WIDTH, 2 * INNER, bias=False)
        self.down = nn.Linear(INNER, WIDTH, bias=False)

    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(b, t, Q_HEADS + 2 * KV_HEADS, DIM).transpose(1, 2)
        q, k, v = qkv.split([Q_HEADS, KV_HEADS, KV_HEADS], dim=1)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.out(a.transpose(1, 2).reshape(b, t, Q_HEADS * DIM))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = nn.RMSNorm(WIDTH, eps=1e-6)
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)
        angles = torch.arange(LENGTH)[:, None] / 10_000 ** (torch.arange(DIM // 2) / (DIM // 2))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, ids, targets):
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        logits = F.linear(self.norm(x), self.embed.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def main():
    torch.set_num_threads(2)
    torch.manual_seed(0)
    wait = "--wait" in sys.argv
    steps = int(sys.argv[sys.argv.index("--steps") + 1]) if "--steps" in sys.argv else 8
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    ids = (torch.arange(SEQUENCES * LENGTH) * 7919 % 2039).view(SEQUENCES, LENGTH)
    targets = (ids * 13 + 1) % VOCAB
    for step in range(steps + 2):
        if wait and not sys.stdin.readline():
            break
        start = time.perf_counter()
        loss = model(ids, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - start
        print(f"{'' if step >= 2 else 'warm '}{seconds:.6f} {loss.item():.6f}", flush=True)


if __name__ == "__main__":
    main()
