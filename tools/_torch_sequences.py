"""Sequence families of the package in plain eager torch, for `tools.bench_families`.

Each is written as a user of torch would write it: `nn.LSTM` and `nn.GRU`, a loop over steps where torch has no better way,
`scaled_dot_product_attention`. Sizes come from a family of the package. `nats(batch)` is the mean loss of a batch, which is
a dict of int64 tensors like the package's example batches.
"""

import torch
from torch import nn
from torch.nn import functional

from tools import _torch_text


def make(family):
    """The twin of a family of the package, or None where torch has none."""
    name = type(family).__name__.lower()
    if name == "transformer":
        f = family
        return Windows(_torch_text.Transformer(f.vocab, f.length, f.width, f.layers, f.heads, f.mlp))
    if name == "recurrent":
        return Windows(Recurrent(family))
    twins = {"hmm": HMM, "masked": Masked, "seq2seq": Seq2Seq}
    return twins[name](family) if name in twins else None


class Windows(nn.Module):
    """The loss of a network from tokens to logits on windows of tokens."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def nats(self, batch):
        tokens = batch["tokens"]
        return functional.cross_entropy(self.network(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


class Recurrent(nn.Module):
    """Tokens, int64 [B, S] -> logits [B, S, vocab], as `scaling.families.recurrent.Recurrent` without dropout."""

    def __init__(self, f):
        super().__init__()
        cells = {"lstm": nn.LSTM, "gru": nn.GRU, "mingru": MinGRU, "minlstm": MinLSTM}
        self.embed, self.norm = nn.Embedding(f.vocab, f.width), nn.RMSNorm(f.width, eps=1e-6)
        self.readout = nn.Linear(f.width, f.vocab, bias=False)
        self.norms = nn.ModuleList(nn.RMSNorm(f.width, eps=1e-6) for _ in range(f.layers))
        self.cells = nn.ModuleList(cells[f.cell](f.width, f.width, batch_first=True) for _ in range(f.layers))
        self.outs = nn.ModuleList(nn.Linear(f.width, f.width, bias=False) for _ in range(f.layers))

    def forward(self, tokens):
        x = self.embed(tokens)
        for norm, cell, out in zip(self.norms, self.cells, self.outs):
            x = x + out(cell(norm(x))[0])
        return self.readout(self.norm(x))


class MinGRU(nn.Module):
    """minGRU in logarithms, whose steps are one cumulative sum (Feng et al. 2024, algorithms 6 and 7)."""

    gates = 2

    def __init__(self, inputs, state, batch_first=True):
        super().__init__()
        self.inputs = nn.Linear(inputs, self.gates * state)

    def logarithms(self, x):
        z, new = self.inputs(x).chunk(2, -1)
        return -functional.softplus(z), -functional.softplus(-z) + _log_positive(new)

    def forward(self, x):
        keep, new = self.logarithms(x)
        kept = keep.cumsum(1)
        return torch.exp(kept + torch.logcumsumexp(new - kept, 1)), None


class MinLSTM(MinGRU):
    """minLSTM likewise (algorithm 8)."""

    gates = 3

    def logarithms(self, x):
        f, i, new = self.inputs(x).chunk(3, -1)
        forget = functional.softplus(-f) - functional.softplus(-i)
        return -functional.softplus(forget), -functional.softplus(-forget) + _log_positive(new)


def _log_positive(x):
    return torch.where(x >= 0, torch.log(functional.relu(x) + 0.5), -functional.softplus(-x))


class HMM(nn.Module):
    """The forward algorithm of `scaling.families.hmm.HMM`, a step at a time."""

    def __init__(self, f):
        super().__init__()
        self.start = nn.Parameter(torch.randn(f.states))
        self.move, self.emit = nn.Parameter(torch.randn(f.states, f.states)), nn.Parameter(torch.randn(f.states, f.vocab))

    def nats(self, batch):
        tokens, emit = batch["tokens"], self.emit.log_softmax(1).T
        move, belief, found = self.move.softmax(1), self.start.softmax(0)[None], []
        for token in tokens.unbind(1):
            seen = torch.log(belief @ move) + emit[token]
            total = seen.logsumexp(1, keepdim=True)
            belief = torch.exp(seen - total)
            found.append(-total)
        return torch.cat(found[1:], 1).mean()


class Masked(nn.Module):
    """`scaling.families.masked.Masked` on text: each token is hidden with probability `mask`; only those are read out."""

    def __init__(self, f):
        super().__init__()
        self.share, (self.cos, self.sin) = f.mask, _torch_text.angles(f.length, f.head_dim)
        self.embed, self.norm = nn.Embedding(f.vocab, f.width), nn.RMSNorm(f.width, eps=1e-6)
        self.mask, self.readout = nn.Parameter(torch.randn(f.width)), nn.Linear(f.width, f.vocab, bias=False)
        self.blocks = nn.ModuleList(_torch_text.Block(f.width, f.heads, f.mlp, causal=False) for _ in range(f.layers))

    def nats(self, batch):
        tokens = batch["tokens"][:, 1:]
        hidden = torch.rand(tokens.shape) < self.share
        x = torch.where(hidden[..., None], self.mask, self.embed(tokens))
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return functional.cross_entropy(self.readout(self.norm(x[hidden])), tokens[hidden])


class CrossBlock(_torch_text.Block):
    """A block of a decoder, which attends to `encodings` at which `real` is true between its two other branches."""

    def __init__(self, width, heads, mlp):
        super().__init__(width, heads, mlp)
        self.cross_norm = nn.RMSNorm(width, eps=1e-6)
        self.cross_q, self.cross_kv = nn.Linear(width, width, bias=False), nn.Linear(width, 2 * width, bias=False)
        self.cross_q_norm, self.cross_k_norm = (nn.RMSNorm(width // heads, eps=1e-6) for _ in range(2))
        self.cross_out = nn.Linear(width, width, bias=False)

    def reading(self, encodings, real):
        """The block, which reads these from now on."""
        self.encodings, self.real = encodings, real
        return self

    def between(self, x):
        q = self.cross_q_norm(self.cross_q(self.cross_norm(x)).unflatten(-1, (self.heads, -1))).transpose(1, 2)
        k, v = self.cross_kv(self.encodings).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, self.cross_k_norm(k), v, self.real)
        return x + self.cross_out(attended.transpose(1, 2).flatten(2))


class Seq2Seq(nn.Module):
    """`scaling.families.seq2seq.Seq2Seq` with its defaults."""

    def __init__(self, f):
        super().__init__()
        self.cos, self.sin = _torch_text.angles(max(f.length, f.source_length), f.head_dim)
        self.embed, self.readout = nn.Embedding(f.vocab, f.width), nn.Linear(f.width, f.vocab, bias=False)
        self.norm, self.source_norm = (nn.RMSNorm(f.width, eps=1e-6) for _ in range(2))
        self.encoder = nn.ModuleList(_torch_text.Block(f.width, f.heads, f.mlp, causal=False)
                                     for _ in range(f.encoder_layers))
        self.blocks = nn.ModuleList(CrossBlock(f.width, f.heads, f.mlp) for _ in range(f.layers))

    def nats(self, batch):
        source, target = batch["source"], batch["target"]
        real, wanted = _written(source)[:, None, None], _written(target[:, 1:])
        x, y = self.embed(source), self.embed(target[:, :-1])
        for block in self.encoder:
            x = block(x, self.cos[:x.shape[1]], self.sin[:x.shape[1]], real)
        x = self.source_norm(x)
        for block in self.blocks:
            y = block.reading(x, real)(y, self.cos[:y.shape[1]], self.sin[:y.shape[1]])
        nats = functional.cross_entropy(self.readout(self.norm(y)).flatten(0, 1), target[:, 1:].flatten(), reduction="none")
        return (nats * wanted.flatten()).sum() / nats.numel()


def _written(rows):
    """True for tokens and the 0 that ends them: bool [B, S]."""
    return torch.arange(rows.shape[1]) <= (rows != 0).sum(1, keepdim=True)
