"""Building blocks of networks, without mutable state. Attention is in `scaling.nn.attention`."""

from scaling.nn.layers import (
                               Conv,
                               Linear,
                               Mlp,
                               Norm,
                               Table,
                               along,
                               cross_entropy,
                               downsample,
                               lying,
                               noise,
                               patches,
                               product,
                               rotate,
                               unpatch,
                               upsample,
)

__all__ = ["Conv", "Linear", "Mlp", "Norm", "Table", "along", "cross_entropy", "downsample", "lying", "noise", "patches",
           "product", "rotate", "unpatch", "upsample"]
