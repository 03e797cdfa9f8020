"""Where metrics are written beside the JSON lines of a workdir: TensorBoard and Weights & Biases."""

import hashlib
import logging
import os
import uuid

from scaling.store import files

WRITERS = ("jsonl", "tensorboard", "wandb")


class LogError(ValueError):
    """A log writer that does not exist or is not installed."""


class TensorBoard:
    """Event files through tensorboardX. They only grow, so `purge_step` tells TensorBoard which steps to hide."""

    def __init__(self, path, resume_step):
        from tensorboardX import SummaryWriter
        with files.disk_full(path):
            # File names have a resolution of one second. Without the suffix a quick restart would overwrite the file.
            self._writer = SummaryWriter(os.fspath(path), purge_step=resume_step, flush_secs=30,
                                         filename_suffix=f".{uuid.uuid4().hex[:8]}")
        # tensorboardX would print a warning at every step of a diverged run.
        logging.getLogger("tensorboardX.x2num").setLevel(logging.ERROR)

    def write(self, step, metrics):
        for name, value in metrics.items():
            if isinstance(value, (bool, int, float)):
                self._writer.add_scalar(name, float(value), step)

    def conclude(self, config: dict, results: dict, step: int) -> None:
        """Adds the config of the run as text, and its results as scalars result/<name>."""
        self._writer.add_text("config", f"    {files.dumps(config, indent=1)}".replace("\n", "\n    "))  # a block of code
        self.write(step, {f"result/{name}": value for name, value in results.items()})

    def close(self):
        self._writer.close()


class Wandb:
    """One W&B run per name and workdir, in the group of the workdir. A restart continues the same W&B run."""

    def __init__(self, workdir, name, config):
        try:
            import wandb
        except ImportError:
            raise LogError("the log writer 'wandb' is not installed: `pip install wandb`, "
                           "or leave it out of the writers") from None
        where = os.fspath(workdir if not files.is_local(workdir) else workdir.resolve())
        identity = hashlib.sha256(f"{where}\n{name}".encode()).hexdigest()[:16]
        self._run = wandb.init(project="scaling", group=workdir.name, name=name, id=identity, resume="allow",
                               config=config, reinit="create_new",
                               dir=where if files.is_local(workdir) else None)

    def write(self, step, metrics):
        self._run.log({k: v for k, v in metrics.items() if isinstance(v, (bool, int, float))}, step=step)

    def conclude(self, config: dict, results: dict, step: int) -> None:
        """Adds the results of the run to its summary; its config is there from the start."""
        self._run.summary.update(results)

    def close(self):
        self._run.finish()
