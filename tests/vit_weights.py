"""Random weights with the names of a small DINOv2."""
import numpy as np


def vit_state(width=128, depth=2, trained=3, patch=2):
    shapes = {"cls_token": (1, 1, width), "pos_embed": (1, trained**2 + 1, width), "norm.weight": (width,),
              "norm.bias": (width,), "patch_embed.proj.weight": (width, 3, patch, patch),
              "patch_embed.proj.bias": (width,)}
    for i in range(depth):
        for name, shape in {"attn.qkv": (3 * width, width), "attn.proj": (width, width),
                            "mlp.fc1": (256, width), "mlp.fc2": (width, 256), "norm1": (width,),
                            "norm2": (width,)}.items():
            shapes |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
        shapes |= {f"blocks.{i}.ls{j}.gamma": (width,) for j in (1, 2)}
    rng = np.random.default_rng(0)
    return {name: 0.1 * rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
