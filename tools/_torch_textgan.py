"""`scaling.families.textgan` in plain eager torch, for `tools.bench_families`: windows are written with a cache of keys and
values, and the generator reads what it wrote once more for its gradient."""

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from scaling.families import _gan_tokens
from tools import _torch_text
from tools._torch_blocks import TokenBlock, linear


class Writer(_torch_text.Transformer):
    """The language model, which also writes."""

    def write(self, first, noise):
        """Windows, int64 [B, S + 1], that begin with `first`, int64 [B, 1]; `noise` [B, S, vocab] chooses their tokens."""
        tokens, caches = [first], [None] * len(self.blocks)
        for place in range(noise.shape[1]):
            x, turn = self.embed(tokens[-1]), (self.cos[place:place + 1], self.sin[place:place + 1])
            for at, block in enumerate(self.blocks):
                x, caches[at] = one_more(block, x, *turn, caches[at])
            tokens.append((self.readout(self.norm(x))[:, 0] + noise[:, place]).argmax(-1, keepdim=True))
        return torch.cat(tokens, 1)


def one_more(block, x, cos, sin, cache):
    """A block of a decoder on the next token [B, 1, width], and its keys and values so far."""
    q, k, v = block.qkv(block.norm(x)).unflatten(-1, (3, block.heads, -1)).permute(2, 0, 3, 1, 4)
    q, k = (_torch_text.rotate(norm(y), cos, sin) for norm, y in ((block.q_norm, q), (block.k_norm, k)))
    if cache is not None:
        k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
    x = x + block.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
    gate, up = block.gate_up(block.mlp_norm(x)).chunk(2, -1)
    return x + block.down(functional.silu(gate) * up), (k, v)


class Critic(nn.Module):
    """Vectors of words [B, S + 1, width] -> logits [B]."""

    def __init__(self, f):
        super().__init__()
        width, layers = f.critic_sizes
        self.table, self.score = nn.Parameter(torch.randn(f.vocab, width)), linear(width, 1)
        self.position = nn.Parameter(torch.randn(1, f.length, width))
        self.basis = nn.Parameter(f.length**-0.5 * torch.randn(1, f.length, width))
        self.blocks = nn.Sequential(*(TokenBlock(width, _gan_tokens.heads(width), 4 * width, (2 * layers) ** -0.5)
                                      for _ in range(layers)), nn.RMSNorm(width, eps=1e-6))

    def embed(self, words):
        """Integers [B, S], or rows of weights of words [B, S, vocab] -> vectors of length 1, [B, S, width]."""
        table = functional.normalize(self.table, dim=1)
        return words @ table if words.is_floating_point() else functional.embedding(words, table)

    def forward(self, vectors):
        given, written = vectors[:, :1], vectors[:, 1:]
        x = torch.cat([written[:, :1] + 0.5 * given, written[:, 1:]], 1) * vectors.shape[-1] ** 0.5
        return self.score((self.blocks(x + self.position) * self.basis).sum(1))[:, 0]


class TextGAN(nn.Module):
    def __init__(self, f):
        super().__init__()
        w = f.writer
        self.family, self.disc = f, Critic(f)
        self.gen = Writer(w.vocab, w.length, w.width, w.layers, w.heads, w.mlp)

    def players(self):
        return (("disc", self.disc), ("gen", self.gen))

    def noise(self, real):
        """Standard Gumbel draws that choose every written token, [B, S, vocab]."""
        uniform = torch.rand(len(real), self.family.length, self.family.vocab)
        return -(-uniform.clamp_min(torch.finfo(uniform.dtype).tiny).log()).log()

    def disc_loss(self, batch, noise=None):
        real = batch["tokens"]
        with torch.no_grad():
            fake = self.gen.write(real[:, :1], self.noise(real) if noise is None else noise)
        vectors = self.disc.embed(torch.cat([real, fake]))
        with sdpa_kernel(SDPBackend.MATH):  # no other kernel can be differentiated twice
            logits = self.disc(vectors)
        slopes, = torch.autograd.grad(logits.sum(), vectors, create_graph=True)
        of_real, of_fake = logits.chunk(2)
        return functional.softplus(of_fake - of_real).mean() + self.family.gamma / 2 * slopes.square().sum() / len(real)

    def gen_loss(self, batch, noise=None):
        real = batch["tokens"]
        noise = self.noise(real) if noise is None else noise
        with torch.no_grad():
            windows, of_real = self.gen.write(real[:, :1], noise), self.disc(self.disc.embed(real))
        soft = ((self.gen(windows[:, :-1]) + noise) / self.family.gumbel).softmax(-1)
        words = functional.one_hot(windows[:, 1:], soft.shape[-1]) + (soft - soft.detach())
        vectors = torch.cat([self.disc.embed(windows[:, :1]), self.disc.embed(words)], 1)
        return functional.softplus(of_real - self.disc(vectors)).mean()
