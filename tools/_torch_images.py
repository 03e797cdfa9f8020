"""Families of images beside VAE and GAN in plain eager torch, for `tools.bench_families`: grey images, token bodies.

Each has `players()`, pairs (name, module that is trained), and `<name>_loss(batch)`, the mean loss of a batch of tensors
like the package's example batches, whose "image" is float [B, 1, H, W] from -1 to 1. Networks are those of the package
with its defaults. What is random is drawn by the loss, and given to a method that computes the loss with it, so that a
test can compare it with the package's (tests/tools/test_torch_images.py).
"""

import math

import torch
from torch import nn
from torch.nn import functional

from scaling.families import _diffusion_levels, _diffusion_network, _gan_tokens, _multimodal, diffusion
from tools import _torch_text
from tools._torch_blocks import TokenBlock, linear, patches, unpatch
from tools._torch_vae import logistic, logistic_start


def make(family):
    """The twin of a family of the package, or None where torch has none."""
    twins = {"Diffusion": Diffusion, "FSQ": FSQ, "Classifier": Classifier, "Coded": Coded, "Multimodal": Multimodal}
    return twins[type(family).__name__](family) if type(family).__name__ in twins else None


class Single(nn.Module):
    """A twin with one player, which is the whole module."""

    def players(self):
        return (("model", self),)


def token_blocks(f, count):
    width = f.width
    return nn.ModuleList(TokenBlock(width, _gan_tokens.heads(width), 4 * width, (2 * count) ** -0.5) for _ in range(count))


def position(tokens, width, std=1.0):
    return nn.Parameter(std * torch.randn(1, tokens, width))


# ---- diffusion


class Diffusion(Single):
    """`scaling.families.diffusion` without conditions, trained with EDM's weights."""

    def __init__(self, f):
        super().__init__()
        self.family, features = f, _diffusion_network.known_features(f)
        self.enter, self.position = linear(f.patch_values, f.width), position(f.tokens, f.width)
        self.styles = linear(features, f.layers * 4 * f.width, scale=0.5)
        self.blocks = token_blocks(f, f.layers)
        self.norm = nn.RMSNorm(f.width, eps=1e-6)
        self.leave = linear(f.width, 2 * f.patch_values, scale=f.width**-0.5)
        self.register_buffer("turns", math.pi * torch.arange(features), persistent=False)

    def forward(self, z, sigma):
        """Noisy images [B, 1, H, W] and noise levels [B] -> the expected images."""
        f, outside = self.family, sigma[:, None, None, None]
        x = self.enter(patches(z * (outside.square() + f.data_std**2).rsqrt(), f.patch_size)) + self.position
        place = (sigma / f.lowest).log() / math.log(f.highest / f.lowest)
        styles = self.styles((place[:, None] * self.turns).cos()).unflatten(1, (len(self.blocks), 4, 1, -1))
        for block, style in zip(self.blocks, styles.unbind(1)):
            x = block(x, style)
        mean, log_std = unpatch(self.leave(self.norm(x)), f.patch_size).chunk(2, 1)
        mean, variance = mean.tanh(), f.data_std**2 * (2 * log_std).exp() + (_diffusion_network.FLOOR * f.step) ** 2
        share = variance / (variance + outside.square())
        return mean_of_levels(mean + share * (z - mean), share * outside.square(), f.levels)

    def model_loss(self, batch):
        f, x = self.family, batch["image"]
        sigma = f.lowest * torch.exp(torch.rand(len(x)) * math.log(f.highest / f.lowest))
        return self.weighted(x, sigma, torch.randn_like(x))

    def weighted(self, x, sigma, noise):
        """The loss at noise levels [B] with standard normals of the shape of the images."""
        f = self.family
        nats = (x - self.forward(x + sigma[:, None, None, None] * noise, sigma)).square().flatten(1).sum(1) / sigma.square()
        density = torch.exp(-0.5 * ((sigma.log() - diffusion.EDM_MEAN) / diffusion.EDM_STD).square())
        weight = density / (diffusion.EDM_STD * math.sqrt(2 * math.pi)) * (1 + (sigma / f.data_std).square())
        return math.log(f.highest / f.lowest) * (weight * nats).mean() / f.dimensions


def mean_of_levels(mean, variance, levels):
    """The mean of a normal that is restricted to the levels of pixels, as `_diffusion_levels.mean_of_levels`."""
    reach, step = _diffusion_levels.REACH, 2 / (levels - 1)
    place, variance = (mean + 1) / step, variance / step**2
    near = place.detach().round().clamp(0, levels - 1)[..., None] + torch.arange(-reach, reach + 1.0)
    distance = (near - place[..., None]).square() / (2 * variance[..., None])
    weights = (-distance).masked_fill((near < 0) | (near > levels - 1), -math.inf).softmax(-1)
    return torch.where(variance < 1, step * (weights * near).sum(-1) - 1, mean)


# ---- tokenizer of images


class FSQ(Single):
    """`scaling.families.fsq` with scalar quantisation and a mixture of logistics."""

    def __init__(self, f):
        super().__init__()
        if f.quantiser != "fsq" or f.likelihood != "logistic":
            raise ValueError(f"the twin of FSQ in torch has no quantiser={f.quantiser} with likelihood={f.likelihood}")
        self.family, pixels, width = f, f.cell**2, f.width
        counts = torch.tensor([int(count) for count in f.code_levels.split(",")])
        self.register_buffer("steps", counts - 1.0, persistent=False)
        self.register_buffer("places", torch.cumprod(torch.cat([torch.ones(1, dtype=int), counts[:-1]]), 0),
                             persistent=False)
        self.enter, self.seen, self.drawn = linear(pixels, width), position(f.tokens, width), position(f.tokens, width)
        self.encoder, self.decoder = token_blocks(f, f.layers), token_blocks(f, f.layers)
        self.norm, self.last = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.narrow, self.widen = linear(width, f.code_channels, scale=0.0), linear(f.code_channels, width)
        self.readout = linear(width, 3 * f.mixture * pixels, scale=width**-0.5)
        self.readout.bias.data = logistic_start(f.mixture).repeat_interleave(pixels)

    def digits(self, x):
        """(rounded channels of the codes, what is rounded), [B, tokens, channels] from -1 to 1, of images."""
        h = self.enter(patches(x, self.family.cell)) + self.seen
        for block in self.encoder:
            h = block(h)
        soft = self.narrow(self.norm(h)).tanh()
        return ((soft + 1) * self.steps / 2).round(), soft

    def codes(self, x):
        """int64 [B, tokens]."""
        return (self.digits(x)[0].long() * self.places).sum(-1)

    def model_loss(self, batch):
        f, x = self.family, batch["image"]
        digits, soft = self.digits(x)
        h = self.widen(soft + (digits * 2 / self.steps - 1 - soft).detach()) + self.drawn
        for block in self.decoder:
            h = block(h)
        return -logistic(unpatch(self.readout(self.last(h)), f.cell), x, f.levels).mean()


# ---- classifier


class Classifier(Single):
    """`scaling.families.classifier`, with its attack of training where there is a radius."""

    def __init__(self, f):
        super().__init__()
        self.family = f
        self.enter, self.position = linear(f.patch_values, f.width), position(f.tokens, f.width)
        self.blocks, self.norm = token_blocks(f, f.layers), nn.RMSNorm(f.width, eps=1e-6)
        self.head = linear(f.width, f.classes, bias=False, scale=f.width**-0.5)

    def forward(self, images):
        x = self.enter(patches(images, self.family.patch_size)) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))

    def model_loss(self, batch):
        x = batch["image"]
        if self.family.radius:
            x = self.attacked(x, batch["label"], 2 * torch.rand_like(x) - 1)
        return functional.cross_entropy(self.forward(x), batch["label"])

    def attacked(self, images, labels, start):
        """The best image that signed gradient steps saw from `start`, of the shape of the images, from -1 to 1."""
        f = self.family
        reach, best = 2 * f.radius, images
        low, high = (images - reach).clamp(min=-1), (images + reach).clamp(max=1)
        with torch.no_grad():
            most = functional.cross_entropy(self.forward(images), labels, reduction="none")
        x = torch.minimum(torch.maximum(images + reach * start, low), high)
        for number in range(f.steps + 1):
            x = x.detach().requires_grad_()
            nats = functional.cross_entropy(self.forward(x), labels, reduction="none")
            better = nats.detach() >= most
            best = torch.where(better[:, None, None, None], x.detach(), best)
            most = torch.where(better, nats.detach(), most)
            if number < f.steps:
                slope, = torch.autograd.grad(nats.sum(), x)
                x = x.detach() + reach * (f.step_size or 2.5 / f.steps) * slope.sign()
                x = torch.minimum(torch.maximum(x, low), high)
        return best


# ---- models that stand on a tokenizer


class Standing(nn.Module):
    """A tokenizer that is not trained, and a `model` that is."""

    def __init__(self, f):
        super().__init__()
        self.family, self.tokenizer = f, FSQ(f.tokenizer).requires_grad_(False)

    def players(self):
        return (("model", self.model),)


class Coded(Standing):
    """`scaling.families.coded` with a Transformer of the codes."""

    def __init__(self, f):
        super().__init__(f)
        m = f.model
        self.model = _torch_text.Transformer(m.vocab, m.length, m.width, m.layers, m.heads, m.mlp)

    def model_loss(self, batch):
        with torch.no_grad():
            codes = self.tokenizer.codes(batch["image"])
        first = self.tokenizer.family.codes + (batch["label"] if self.family.classes else torch.zeros_like(codes[:, 0]))
        return self.model.nats(torch.cat([first[:, None], codes], 1))


class Multimodal(Standing):
    """`scaling.families.multimodal` over codes, without dropout."""

    def __init__(self, f):
        if f.images != "codes":
            raise ValueError(f"the twin of Multimodal in torch reads codes, not {f.images}")
        super().__init__(f)
        m, side = f.model, math.isqrt(f.parts)
        self.model = _torch_text.Transformer(m.vocab, m.length, m.width, m.layers, m.heads, m.mlp)
        self.model.caption_place = position(f.caption, m.width, _multimodal.PLACE_STD)
        self.model.row, self.model.column = (position(side, m.width, _multimodal.PLACE_STD) for _ in range(2))

    def model_loss(self, batch):
        return self.ordered(batch, torch.rand(len(batch["image"])) < self.family.share)

    def ordered(self, batch, captions_first):
        """The loss where the caption of some examples comes first, bool [B], and the image of the others."""
        f, m, text = self.family, self.model, batch["caption"]
        n, parts, first = f.caption, f.parts, captions_first[:, None, None]
        with torch.no_grad():
            codes = self.tokenizer.codes(batch["image"])
        caption = m.embed(text) + m.caption_place
        image = m.embed(_multimodal.BYTES + codes) + (m.row[0, :, None] + m.column).flatten(0, 1)
        marker = m.embed(torch.where(captions_first, f.caption_marker, f.image_marker))[:, None]
        x = torch.where(first, torch.cat([caption, image], 1), torch.cat([image, caption], 1))
        x = torch.cat([marker, x[:, :-1]], 1)
        for block in m.blocks:
            x = block(x, m.cos, m.sin)
        x = m.norm(x)
        of_text, of_image = torch.where(first, x[:, :n], x[:, parts:]), torch.where(first, x[:, n:], x[:, :parts])
        logits = functional.linear(of_text, m.readout.weight[:_multimodal.BYTES])
        nats = functional.cross_entropy(logits.flatten(0, 1), text.flatten(), reduction="none").view_as(text)
        written = torch.arange(n) <= (text != 0).sum(1, keepdim=True)  # the bytes of a caption, and the 0 that ends it
        logits = functional.linear(of_image, m.readout.weight[_multimodal.BYTES:_multimodal.BYTES + f.codes])
        seen = functional.cross_entropy(logits.flatten(0, 1), codes.flatten(), reduction="sum")
        return (f.text_weight * (nats * written).sum() + f.image_weight * seen) / len(text) / f.length
