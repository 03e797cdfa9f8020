"""`scaling.families.gan` in plain torch: the relativistic game with exact R1 and R2, without labels and captions."""

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from scaling.families import _gan_conv, _gan_tokens
from tools._torch_blocks import TokenBlock, conv, linear, patches, unpatch


def leaky(x):
    return functional.leaky_relu(x, 0.2)


class TokenGenerator(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.patch, self.basis = f.patch_size, nn.Parameter(torch.randn(1, f.tokens, f.width))
        self.enter = linear(f.latent, f.width)
        self.styles = linear(f.latent, f.layers * 2 * f.width, scale=0.5)
        self.blocks = token_blocks(f.width, f.layers)
        self.leave = nn.Sequential(nn.RMSNorm(f.width, eps=1e-6), linear(f.width, f.patch_values))

    def forward(self, z):
        x = self.basis * self.enter(z)[:, None]
        styles = self.styles(z).unflatten(1, (len(self.blocks), 2, 1, -1))
        for layer, style in zip(self.blocks, styles.unbind(1)):
            x = layer(x * (1 + style[:, 0]) + style[:, 1])
        return unpatch(self.leave(x), self.patch)


class TokenCritic(nn.Module):
    def __init__(self, f):
        super().__init__()
        width, layers = f.critic_sizes
        self.patch, self.enter, self.score = f.patch_size, linear(f.patch_values, width), linear(width, 1)
        self.position = nn.Parameter(torch.randn(1, f.tokens, width))
        self.basis = nn.Parameter(f.tokens**-0.5 * torch.randn(1, f.tokens, width))
        self.blocks = nn.Sequential(*token_blocks(width, layers), nn.RMSNorm(width, eps=1e-6))

    def forward(self, images):
        x = self.blocks(self.enter(patches(images, self.patch)) + self.position)
        return self.score((x * self.basis).sum(1))[:, 0]


def token_blocks(width, layers):
    make = (width, _gan_tokens.heads(width), 4 * width, (2 * layers) ** -0.5)
    return nn.ModuleList(TokenBlock(*make) for _ in range(layers))


class Residual(nn.Module):
    def __init__(self, f, width, blocks):
        super().__init__()
        inner, gain = width * f.expansion, blocks**-0.25
        self.enter = conv(width, inner, scale=gain)
        self.mix = conv(inner, inner, 3, scale=gain * _gan_conv.GAIN, groups=f.groups)
        self.leave = conv(inner, width, bias=False, scale=0.0)

    def forward(self, x):
        return x + self.leave(leaky(self.mix(leaky(self.enter(x)))))


def stages(f, widths, layers, resize):
    """Residual blocks at each resolution and, between two, `resize(a 1x1 convolution)`."""
    out = []
    for index, width in enumerate(widths):
        out += resize(conv(widths[index - 1], width, bias=False)) if index else []
        out += [Residual(f, width, layers * len(widths)) for _ in range(layers)]
    return nn.Sequential(*out)


class ConvGenerator(nn.Module):
    def __init__(self, f):
        super().__init__()
        widths = _gan_conv.stage_channels(f, f.width)
        self.enter, self.leave = linear(f.latent, widths[0]), conv(widths[-1], f.channels)
        self.basis = nn.Parameter(torch.randn(1, widths[0], _gan_conv.START, _gan_conv.START))
        self.stages = stages(f, widths, f.layers, lambda change: [change, nn.Upsample(scale_factor=2)])

    def forward(self, z):
        return self.leave(self.stages(self.basis * self.enter(z)[:, :, None, None]))


class ConvCritic(nn.Module):
    def __init__(self, f):
        super().__init__()
        width, layers = f.critic_sizes
        widths = _gan_conv.stage_channels(f, width)[::-1]
        self.enter, self.score = conv(f.channels, widths[0]), linear(widths[-1], 1)
        side = _gan_conv.START
        self.basis = nn.Parameter(torch.randn(1, widths[-1], side, side) / side)
        self.stages = stages(f, widths, layers, lambda change: [nn.AvgPool2d(2), change])

    def forward(self, images):
        return self.score((self.stages(self.enter(images)) * self.basis).sum((2, 3)))[:, 0]


BODIES = {"tokens": (TokenGenerator, TokenCritic), "conv": (ConvGenerator, ConvCritic)}


class GAN(nn.Module):
    def __init__(self, f):
        super().__init__()
        generator, critic = BODIES[f.body]
        self.family, self.gen, self.disc = f, generator(f), critic(f)

    def players(self):
        return (("disc", self.disc), ("gen", self.gen))

    def generate(self, like):
        return self.gen(torch.randn(len(like), self.family.latent))

    def disc_loss(self, batch):
        real = batch["image"]
        with torch.no_grad():
            fake = self.generate(real)
        images = torch.cat([real, fake]).requires_grad_()
        with sdpa_kernel(SDPBackend.MATH):  # no other kernel can be differentiated twice
            logits = self.disc(images)
        slopes, = torch.autograd.grad(logits.sum(), images, create_graph=True)
        real, fake = logits.chunk(2)
        return functional.softplus(fake - real).mean() + self.family.gamma / 2 * slopes.square().sum() / len(real)

    def gen_loss(self, batch):
        with torch.no_grad():
            real = self.disc(batch["image"])
        return functional.softplus(real - self.disc(self.generate(real))).mean()
