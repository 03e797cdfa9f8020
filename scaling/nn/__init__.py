"""Building blocks of networks, without mutable state. Attention is in `scaling.nn.attention`."""

from typing import TYPE_CHECKING

from scaling.faces import lazy

if TYPE_CHECKING:
    from scaling.nn.convolution import Conv, Upsampling
    from scaling.nn.experts import Experts
    from scaling.nn.layers import (
        ACTIVATIONS,
        Linear,
        Mlp,
        Norm,
        Table,
        along,
        capped,
        constrain,
        cross_entropy,
        downsample,
        dropout,
        nats_and_log_sums,
        noise,
        patches,
        product,
        unpatch,
        upsample,
    )
    from scaling.nn.levels import levels_to_signed, levels_to_unit, signed_to_levels
    from scaling.nn.rotary import Rotary, read_scaling, rotate
    from scaling.nn.stack import through_layers
    from scaling.nn.taps import tap, tapped

__getattr__, __dir__ = lazy(__name__)
__all__ = ["ACTIVATIONS", "Conv", "Experts", "Linear", "Mlp", "Norm", "Rotary", "Table", "Upsampling", "along", "capped",
           "constrain", "cross_entropy", "downsample", "dropout", "levels_to_signed", "levels_to_unit", "nats_and_log_sums",
           "noise", "patches", "product", "read_scaling", "rotate", "signed_to_levels", "tap", "tapped", "through_layers",
           "unpatch", "upsample"]
