"""EuroBERT: the layers of Llama, read in both directions, with a token that stands for hidden ones (Boizard et al.
2503.05500)."""

import numpy as np

from scaling.exchange.layouts.llama import LAYER, Llama

NEVER = -1e4  # the bias of the logit of the token that hides others, which no text has


class EuroBert(Llama):
    """The family is the Transformer that `scaling.exchange.plain.as_decoder` gives of an encoder, whose last token hides
    others. The layout has biases of the readout only together with those of the MLP, which are zero."""

    model_type, architecture, encodes = "eurobert", "EuroBertForMaskedLM", True
    varies, biases = (), ("none",)

    def config(self, family):
        return super().config(family) | {"mlp_bias": True, "mask_token_id": family.vocab - 1}

    def constants(self, family):
        readout = np.zeros(family.vocab, np.float32)
        readout[-1] = NEVER
        sizes = {"gate": family.mlp, "up": family.mlp, "down": family.width}
        return {"lm_head.bias": readout, **{f"{LAYER.format(layer=layer)}mlp.{name}_proj.bias": np.zeros(size, np.float32)
                                            for layer in range(family.layers) for name, size in sizes.items()}}
