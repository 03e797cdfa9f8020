"""The cores of a CPU as devices of their own. Does not import JAX."""

import os

from scaling.devices import chips


def one_cpu_device_per_core():
    """Set XLA to one single-threaded CPU device per core. Call it before JAX starts. Accelerators are not affected.

    A mesh of such devices keeps every core busy even when matrices are small. One device with many threads does not.
    """
    chips.leave_absent_tpus_alone()
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        flags += f" --xla_force_host_platform_device_count={cores}"
    if "xla_cpu_multi_thread_eigen" not in flags:
        flags += " --xla_cpu_multi_thread_eigen=false"
    os.environ["XLA_FLAGS"] = flags.strip()
