"""Language models in plain eager torch, for `tools.bench`: the package's Transformer, and `GPT2LMHeadModel` of
transformers.

Both are written as a user of torch would write them: `scaled_dot_product_attention`, one product for queries, keys and
values, fused AdamW. With the package's weights, logits and gradients are the package's (tests/tools/test_torch_text.py).
Nothing of the package is imported, so that a script which trains one model starts as fast as a user's own.
"""

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """A pre-norm block on [B, S, width]. One that is not causal sees every token, or those at which `seen` is true, bool
    [B, 1, 1, S]."""

    def __init__(self, width, heads, mlp, causal=True):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm, self.mlp_norm = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.q_norm, self.k_norm = (nn.RMSNorm(width // heads, eps=1e-6) for _ in range(2))
        self.gate_up, self.down = nn.Linear(width, 2 * mlp, bias=False), nn.Linear(mlp, width, bias=False)

    def forward(self, x, cos, sin, seen=None):
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = rotate(self.q_norm(q), cos, sin), rotate(self.k_norm(k), cos, sin)
        attended = functional.scaled_dot_product_attention(q, k, v, seen, is_causal=self.causal)
        x = self.between(x + self.out(attended.transpose(1, 2).flatten(2)))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, -1)
        return x + self.down(functional.silu(gate) * up)

    def between(self, x):
        """What a block with more than two branches does before the last one."""
        return x


def angles(length, size):
    """Cosines and sines of rotary positions, [length, size / 2] each."""
    half = size // 2
    turned = torch.arange(length)[:, None] * 10_000.0 ** (-torch.arange(half) / half)
    return turned.cos(), turned.sin()


def rotate(x, cos, sin):
    """Rotary positions of x [B, heads, S, d]; cos and sin [S, d/2]."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Transformer(nn.Module):
    """Tokens, int64 [B, S] -> logits [B, S, vocab], as `scaling.families.transformer.Transformer` with its defaults."""

    def __init__(self, vocab, length, width, layers, heads, mlp):
        super().__init__()
        self.embed, self.norm = nn.Embedding(vocab, width), nn.RMSNorm(width, eps=1e-6)
        self.blocks = nn.ModuleList(Block(width, heads, mlp) for _ in range(layers))
        self.readout = nn.Linear(width, vocab, bias=False)
        for name, values in zip(("cos", "sin"), angles(length, width // heads)):
            self.register_buffer(name, values, persistent=False)
        for block in self.blocks:
            for layer, fan_in in ((block.qkv, width), (block.gate_up, width), (block.out, 2 * layers * width),
                                  (block.down, 2 * layers * mlp)):
                nn.init.normal_(layer.weight, std=fan_in**-0.5)
        nn.init.normal_(self.readout.weight, std=1 / width)

    def forward(self, tokens):
        x, length = self.embed(tokens), tokens.shape[1]
        for block in self.blocks:
            x = block(x, self.cos[:length], self.sin[:length])
        return self.readout(self.norm(x))

    def nats(self, windows):
        """Mean nats per token of windows, int64 [B, S+1]."""
        return functional.cross_entropy(self.forward(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())


class GPT2(nn.Module):
    """`GPT2LMHeadModel` of the same width and depth, without dropout."""

    def __init__(self, vocab, length, width, layers, heads):
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel, logging

        logging.set_verbosity_error()
        off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "use_cache": False}
        self.model = GPT2LMHeadModel(GPT2Config(
            vocab_size=vocab, n_positions=length, n_embd=width, n_layer=layers, n_head=heads, bos_token_id=0,
            eos_token_id=0, attn_implementation="sdpa", **off))

    def nats(self, windows):
        """Mean nats per token of windows, int64 [B, S+1]; the model predicts all but the first of S tokens."""
        tokens = windows[:, :-1]
        return self.model(input_ids=tokens, labels=tokens).loss


def swiglu(width):
    """The package's hidden size of a SwiGLU: 8/3 widths, rounded down to a multiple of 8, or of 128 from width 512."""
    unit = 8 if width < 512 else 128
    return max(unit, 8 * width // 3 // unit * unit)


def make(who, vocab, length, width, layers, heads):
    """The model of `who`, "torch" or "gpt2"."""
    if who == "gpt2":
        return GPT2(vocab, length, width, layers, heads)
    return Transformer(vocab, length, width, layers, heads, swiglu(width))


def trainer(model, rate=1e-4, clip=1.0):
    """`step(windows, rate)`: one update by AdamW, with the gradient's norm clipped; returns the loss as a tensor."""
    parameters = list(model.parameters())
    groups = [{"params": [p for p in parameters if (p.ndim > 1) == matrices], "weight_decay": decay}
              for matrices, decay in ((True, 0.1), (False, 0.0))]
    adam = torch.optim.AdamW(groups, rate, (0.9, 0.95), 1e-10, fused=True)

    def step(windows, rate=None):
        for group in adam.param_groups if rate is not None else ():
            group["lr"] = rate
        loss = model.nats(windows)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, clip)
        adam.step()
        return loss.detach()

    return step
