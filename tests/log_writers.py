"""What TensorBoard reads, and a stand-in for Weights & Biases."""

import struct
import sys
import types

from tensorboardX.proto.event_pb2 import Event


def events(directory):
    """All TensorBoard events under a directory: records of [length, crc of it, content, crc of it]."""
    for path in sorted(directory.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12:12 + length])
            data = data[16 + length:]


def fake_wandb(monkeypatch):
    """A stand-in for the module, which records what is called; its `runs` are those that were begun."""
    module = types.ModuleType("wandb")
    module.runs = []

    def init(**options):
        run = types.SimpleNamespace(options=options, logged=[], finished=False, summary={})
        run.log = lambda metrics, step: run.logged.append((step, metrics))
        run.finish = lambda: setattr(run, "finished", True)
        module.runs.append(run)
        return run
    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module
