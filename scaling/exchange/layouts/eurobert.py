"""EuroBERT: the layers of Llama, read in both directions, with a token that stands for hidden ones (Boizard et al.
2503.05500)."""

import numpy as np

from scaling.exchange.errors import ExchangeError
from scaling.exchange.layouts.llama import LAYER, Llama

NEVER = -1e4  # the bias of the logit of the token that hides others, which no text has


class EuroBert(Llama):
    """The family is the Transformer that `scaling.exchange.plain.as_decoder` gives of an encoder, whose last token hides
    others. The layout has biases of the readout only together with those of the MLP, which are zero."""

    model_type, architecture, encodes = "eurobert", "EuroBertForMaskedLM", True
    varies, biases = (), ("none",)
    fixed = {"hidden_act": Llama.fixed["hidden_act"]}

    def differs(self, family):
        return super().differs(family) + ([] if family.kv_heads == family.heads else ["kv_heads"])

    def config(self, family):
        return super().config(family) | {"mlp_bias": True, "mask_token_id": family.vocab - 1}

    def constants(self, family):
        readout = np.zeros(family.vocab, np.float32)
        readout[-1] = NEVER
        sizes = {"gate": family.mlp, "up": family.mlp, "down": family.width}
        return {"lm_head.bias": readout, **{f"{LAYER.format(layer=layer)}mlp.{name}_proj.bias": np.zeros(size, np.float32)
                                            for layer in range(family.layers) for name, size in sizes.items()}}

    def hides_apart(self, constants) -> bool:
        """Whether the last token is none of a text, as the biases of a checkpoint say: tensors of the names of `constants`.
        Raises an ExchangeError for biases that an encoder here does not have."""
        readout = constants.get("lm_head.bias", np.zeros(1, np.float32))
        apart = bool(readout[-1] <= NEVER)
        for name, tensor in {**constants, "lm_head.bias": readout[:-1] if apart else readout}.items():
            if tensor.any():
                raise ExchangeError(f"the checkpoint has a bias that is not zero, {name}, and an encoder of scaling has "
                                    "none there: it cannot be imported")
        return apart
