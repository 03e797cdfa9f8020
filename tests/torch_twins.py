"""The networks of FID tools written again in torch, with random weights.

Only the tests that have torch import this: it shares no code with the package.
"""
import torch
import torch.nn.functional as functional
from torch import nn


class ConvBn(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x):
        return functional.relu(self.bn(self.conv(x)))


def average(x):
    return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class A(nn.Module):
    def __init__(self, n, pool):
        super().__init__()
        self.branch1x1 = ConvBn(n, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = ConvBn(n, 48, 1), ConvBn(48, 64, 5, padding=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = ConvBn(n, 64, 1), ConvBn(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvBn(96, 96, 3, padding=1)
        self.branch_pool = ConvBn(n, pool, 1)

    def forward(self, x):
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double,
                          self.branch_pool(average(x))], 1)


class B(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.branch3x3 = ConvBn(n, 384, 3, 2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = ConvBn(n, 64, 1), ConvBn(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvBn(96, 96, 3, 2)

    def forward(self, x):
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, functional.max_pool2d(x, 3, 2)], 1)


def across(inputs, outputs):
    return ConvBn(inputs, outputs, (1, 7), padding=(0, 3))


def down(inputs, outputs):
    return ConvBn(inputs, outputs, (7, 1), padding=(3, 0))


class C(nn.Module):
    def __init__(self, n, c):
        super().__init__()
        self.branch1x1 = ConvBn(n, 192, 1)
        self.branch7x7_1, self.branch7x7_2, self.branch7x7_3 = ConvBn(n, c, 1), across(c, c), down(c, 192)
        self.branch7x7dbl_1, self.branch7x7dbl_2 = ConvBn(n, c, 1), down(c, c)
        self.branch7x7dbl_3, self.branch7x7dbl_4 = across(c, c), down(c, c)
        self.branch7x7dbl_5 = across(c, 192)
        self.branch_pool = ConvBn(n, 192, 1)

    def forward(self, x):
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        return torch.cat([self.branch1x1(x), self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x))),
                          self.branch7x7dbl_5(self.branch7x7dbl_4(double)), self.branch_pool(average(x))], 1)


class D(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = ConvBn(n, 192, 1), ConvBn(192, 320, 3, 2)
        self.branch7x7x3_1, self.branch7x7x3_2 = ConvBn(n, 192, 1), across(192, 192)
        self.branch7x7x3_3, self.branch7x7x3_4 = down(192, 192), ConvBn(192, 192, 3, 2)

    def forward(self, x):
        double = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), double, functional.max_pool2d(x, 3, 2)], 1)


class E(nn.Module):
    def __init__(self, n, pool):
        super().__init__()
        self.pool = pool
        self.branch1x1, self.branch3x3_1 = ConvBn(n, 320, 1), ConvBn(n, 384, 1)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = ConvBn(n, 448, 1), ConvBn(448, 384, 3, padding=1)
        for name in ("branch3x3_2", "branch3x3dbl_3"):
            setattr(self, name + "a", ConvBn(384, 384, (1, 3), padding=(0, 1)))
            setattr(self, name + "b", ConvBn(384, 384, (3, 1), padding=(1, 0)))
        self.branch_pool = ConvBn(n, 192, 1)

    def forward(self, x):
        single, double = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return torch.cat([self.branch1x1(x), self.branch3x3_2a(single), self.branch3x3_2b(single),
                          self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double),
                          self.branch_pool(self.pool(x))], 1)


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3 = ConvBn(3, 32, 3, 2), ConvBn(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvBn(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = ConvBn(64, 80, 1), ConvBn(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = A(192, 32), A(256, 64), A(288, 64)
        self.Mixed_6a = B(288)
        self.Mixed_6b, self.Mixed_6c = C(768, 128), C(768, 160)
        self.Mixed_6d, self.Mixed_6e = C(768, 160), C(768, 192)
        self.Mixed_7a, self.Mixed_7b = D(768), E(1280, average)
        self.Mixed_7c = E(2048, lambda x: functional.max_pool2d(x, 3, 1, 1))
        self.fc = nn.Linear(2048, 1008)

    def layers(self, x):
        found = {}
        for name, module in self.named_children():
            if name == "fc":
                break
            x = found[name] = module(x)
            if name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
                x = functional.max_pool2d(x, 3, 2)
        return found | {"pool": x.mean((2, 3))}


class VitBlock(nn.Module):
    def __init__(self, width, gated):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.Module()
        self.attn.qkv, self.attn.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp, self.gated = nn.Module(), gated
        if gated:
            self.mlp.w12, self.mlp.w3 = nn.Linear(width, 2 * 88), nn.Linear(88, width)
        else:
            self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.ls1, self.ls2 = nn.Module(), nn.Module()
        self.ls1.gamma, self.ls2.gamma = nn.Parameter(torch.rand(width)), nn.Parameter(torch.rand(width))

    def forward(self, x):
        n, t, c = x.shape
        q, k, v = self.attn.qkv(self.norm1(x)).reshape(n, t, 3, c // 64, 64).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, c)
        x = x + self.ls1.gamma * self.attn.proj(mixed)
        y = self.norm2(x)
        if self.gated:
            first, second = self.mlp.w12(y).chunk(2, -1)
            return x + self.ls2.gamma * self.mlp.w3(functional.silu(first) * second)
        return x + self.ls2.gamma * self.mlp.fc2(functional.gelu(self.mlp.fc1(y)))


class DinoV2(nn.Module):
    def __init__(self, width=128, depth=2, trained=5, patch=14, registers=0, gated=False):
        super().__init__()
        self.trained, self.patch, self.registers = trained, patch, registers
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, trained**2 + 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        if registers:
            self.register_tokens = nn.Parameter(torch.randn(1, registers, width))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, patch, patch)
        self.blocks = nn.ModuleList(VitBlock(width, gated) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def positions(self, rows, columns):
        if rows == columns == self.trained:
            return self.pos_embed
        grid = self.pos_embed[:, 1:].reshape(1, self.trained, self.trained, -1).permute(0, 3, 1, 2)
        if self.registers:
            grid = functional.interpolate(grid, size=(rows, columns), mode="bicubic", antialias=True)
        else:
            scale = ((rows + 0.1) / self.trained, (columns + 0.1) / self.trained)
            grid = functional.interpolate(grid, scale_factor=scale, mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)], 1)

    def layers(self, x):
        rows, columns = x.shape[2] // self.patch, x.shape[3] // self.patch
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.positions(rows, columns)
        if self.registers:
            x = torch.cat([x[:, :1], self.register_tokens.expand(len(x), -1, -1), x[:, 1:]], 1)
        found = {"tokens": x}
        for i, block in enumerate(self.blocks):
            x = found[f"block{i}"] = block(x)
        return found | {"class": self.norm(x)[:, 0]}


def randomised(module, seed=0):
    """The module in evaluation mode with every parameter and statistic random, activations of order one."""
    generator = torch.Generator().manual_seed(seed)

    def normal(like):
        return torch.randn(like.shape, generator=generator)

    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d):
                part.weight.copy_(normal(part.weight) * (2 / part.weight[0].numel()) ** 0.5)
            if isinstance(part, nn.BatchNorm2d):
                part.weight.copy_(1 + 0.1 * normal(part.weight))
                part.bias.copy_(0.1 * normal(part.bias))
                part.running_mean.copy_(0.1 * normal(part.running_mean))
                part.running_var.copy_(torch.rand(part.running_var.shape, generator=generator) + 0.5)
    return module.eval()
