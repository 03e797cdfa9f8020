"""Options for XLA's compiler that pay on a CPU; elsewhere, and where this XLA does not know one, there are none."""

import functools

import jax
import jax.numpy as jnp

from scaling import sharding


def runs_often() -> dict:
    """For programs that run many times. XLA's YNNPACK kernels are fast for matrix products and slow for reductions of
    the size of a small model's, which its own loops do better: a step of a small Transformer took 0.8 of the time."""
    return _known({"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"})


def runs_once() -> dict:
    """For programs that run once, such as an initialisation: compiled in a third of the time and slow to run."""
    return _known({"xla_backend_optimization_level": 0})


def _known(options: dict) -> dict:
    on_cpu = sharding.platform() == jax.default_backend() == "cpu"
    return {name: value for name, value in options.items() if on_cpu and _accepted(name, value)}


@functools.cache
def _accepted(name, value) -> bool:
    try:
        jax.jit(lambda x: x + 1, compiler_options={name: value})(jnp.zeros(()))
        return True
    except Exception:  # whatever an XLA without the option makes of it
        return False
