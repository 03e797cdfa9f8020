"""nanodo's model, loss and optimiser (https://github.com/google-deepmind/nanodo) in one jitted step, for `tools.bench`.

nanodo is read from a checkout. Its data pipeline is not used, so the packages that only the pipeline needs may be absent.
"""

import importlib
import importlib.util
import sys
import types

import jax
import jax.numpy as jnp
import ml_collections
import optax

from tools import _bench_cases as cases

PIPELINE = ("tensorflow_datasets", "sentencepiece", "grain", "grain.python")


def load(checkout):
    """(model, loss, optimizer), modules of the checkout; stands in for packages of its data pipeline that are absent."""
    for name in PIPELINE:
        if name not in sys.modules and (importlib.util.find_spec(name.partition(".")[0]) is None):
            sys.modules[name] = types.ModuleType(name)
    for name in ("SentencePieceProcessor", "DataLoader", "Record"):  # its data module names them in annotations
        for module in map(sys.modules.get, PIPELINE):
            if module is not None and module.__spec__ is None and not hasattr(module, name):
                setattr(module, name, object)
    sys.path.insert(0, str(checkout))
    return tuple(importlib.import_module(f"nanodo.{name}") for name in ("model", "loss", "optimizer"))


class Nanodo:
    """A model of nanodo with as many parameters as the package's Transformer of this width and depth: F is 4 widths.

    `steps` is the length of a run for the schedule of nanodo, a cosine.
    """

    def __init__(self, checkout, vocab, length, width, layers, heads, rate=1e-4, steps=100_000):
        model, loss, optimizer = load(checkout)
        config = model.DoConfig(D=width, H=heads, L=length, N=layers, V=vocab, F=4 * width, fsdp_enabled=False)
        self.module, self.length = model.TransformerDo(config), length
        settings = ml_collections.ConfigDict({"log_internal_metrics": False})
        self.loss_of = lambda batch: loss.get_default_loss_fn(batch, self.module.apply, settings)
        self.optimizer = optimizer.get_optimizer(ml_collections.ConfigDict({
            "peak_learning_rate": rate, "init_learning_rate": rate / 10, "final_learning_rate": rate / 10,
            "warmup_steps": min(cases.WARMUP, steps // 2), "num_train_steps": steps, "decay_type": "cosine",
            "weight_decay": 0.1, "clip_by_global_norm": None, "optimizer": "adamw"}))
        self.step = jax.jit(self._step, donate_argnums=0)
        self.evaluate = jax.jit(lambda params, batch: self.loss_of(batch)(params)[0])

    def init(self, seed=0):
        """The state before the first step: (parameters, the optimiser's state)."""
        def make(key):
            params = self.module.init(key, jnp.ones((1, self.length), jnp.int32))["params"]
            return params, self.optimizer.init(params)
        return jax.jit(make)(jax.random.key(seed))

    def _step(self, state, batch):
        """(state, loss) after a step on a batch, int32 [B, length]."""
        params, saved = state
        (loss, _), grads = jax.value_and_grad(self.loss_of(batch), has_aux=True)(params)
        updates, saved = self.optimizer.update(grads, saved, params)
        return (optax.apply_updates(params, updates), saved), loss
