"""The families of the package in plain eager torch, for `tools.bench` and `tools.bench_families`.

Sizes come from a family of the package. Networks, losses and updates are written as a user of torch would write them:
`nn.Conv2d` in channels-last memory, `scaled_dot_product_attention`, one product for queries, keys and values, fused AdamW.
With the package's weights and noise, losses and gradient norms agree with the package's to six digits. Matrices have the
package's initialisation. Only machines with torch import this module.
"""

import torch
from torch import nn

from scaling.families import textgan
from tools import _torch_gan, _torch_images, _torch_sequences, _torch_textgan, _torch_vae


def trainer(family, optim):
    """(step, number of trained parameters); `step` does one update of every player on a batch, a dict of tensors as in the
    family's example batches: "image" uint8 [B, H, W, 1], and integers."""
    if isinstance(family, textgan.TextGAN):
        return _players(_torch_textgan.TextGAN(family), optim)
    if not hasattr(family, "image_size"):
        return _sequences(family, optim)
    scale = 2 / (family.levels - 1)
    return _players(pictured(family).to(memory_format=torch.channels_last), optim,
                    lambda batch: batch | {"image": batch["image"].permute(0, 3, 1, 2) * scale - 1})


def _players(modules, optim, read=lambda batch: batch):
    """`trainer` of modules with players, whose losses take `read(batch)`."""
    adams = {name: _adamw(module, optim) for name, module in modules.players()}

    def step(batch):
        given = read(batch)
        for name, module in modules.players():
            parameters = list(module.parameters())
            grads = torch.autograd.grad(getattr(modules, f"{name}_loss")(given), parameters)
            for parameter, grad in zip(parameters, grads):
                parameter.grad = grad
            nn.utils.clip_grad_norm_(parameters, optim.clip)
            adams[name].step()

    return step, sum(p.numel() for _, module in modules.players() for p in module.parameters())


def pictured(family):
    """The twin of a family of images: its `players()`, and `<player>_loss(batch)` of float "image" [B, 1, H, W]."""
    others = {"VAE": _torch_vae.VAE, "GAN": _torch_gan.GAN}
    name = type(family).__name__
    module = others[name](family) if name in others else _torch_images.make(family)
    if module is None:
        raise ValueError(f"there is no twin of {name} in torch")
    return module


def _sequences(family, optim):
    module = _torch_sequences.make(family)
    if module is None:
        raise ValueError(f"there is no twin of {type(family).__name__} in torch")
    adam, parameters = _adamw(module, optim), list(module.parameters())

    def step(batch):
        adam.zero_grad(set_to_none=True)
        module.nats(batch).backward()
        nn.utils.clip_grad_norm_(parameters, optim.clip)
        adam.step()

    return step, sum(p.numel() for p in parameters)


def _adamw(module, o):
    groups = [{"params": [p for p in module.parameters() if (p.ndim > 1) == matrices], "weight_decay": decay}
              for matrices, decay in ((True, o.weight_decay), (False, 0.0))]
    return torch.optim.AdamW(groups, o.learning_rate, (o.beta1, o.beta2), o.epsilon, fused=True)
