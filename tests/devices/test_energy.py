"""Counters of energy: what a machine's files say becomes joules, in the records of runs too."""

import sys
import types

import jax
import numpy as np
import pytest
from sources import tiny

from scaling.devices import energy
from scaling.experiment import grid
from scaling.store import files
from scaling.store.progress import Progress
from scaling.sweeps.clock import TRAINING, Clock, Spent
from scaling.sweeps.runner import Runner, TrainingOptions


def zone(folder, name, microjoules, most=10**9):
    path = folder / name
    path.mkdir(exist_ok=True)
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text(f"{most}\n")


def test_each_processor_counts_once_and_begins_again_where_it_is_full(tmp_path):
    zone(tmp_path, "intel-rapl:0", 900_000_000)
    zone(tmp_path, "intel-rapl:1", 5)
    zone(tmp_path, "intel-rapl:0:0", 7)  # the cores of the first one, which are in it
    found = energy.packages(tmp_path)
    assert [read() for read in found] == [0, 0]
    zone(tmp_path, "intel-rapl:0", 100_000_000)
    zone(tmp_path, "intel-rapl:1", 2_000_005)
    assert [read() for read in found] == [200, 2]
    zone(tmp_path, "intel-rapl:0", 150_000_000)
    assert [read() for read in found] == [250, 2]


def test_gpus_are_counted_by_their_own_numbers(monkeypatch):
    asked = []
    monkeypatch.setitem(sys.modules, "pynvml", types.SimpleNamespace(
        nvmlInit=lambda: None, nvmlDeviceGetHandleByIndex=lambda index: asked.append(index) or index,
        nvmlDeviceGetHandleByUUID=lambda name: asked.append(name) or 7,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: 1500 * (handle + 1)))
    devices = [types.SimpleNamespace(local_hardware_id=number) for number in range(2)]
    assert [read() for read in energy.accelerators(devices)] == [1.5, 3.0] and asked == [0, 1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-ab")
    assert [read() for read in energy.accelerators(devices)] == [6.0, 12.0] and asked[2:] == [3, "GPU-ab"]


@pytest.mark.parametrize("files", ["none", "unreadable"])
def test_without_a_counter_that_may_be_read_energy_is_not_known(files, tmp_path, monkeypatch):
    if files == "unreadable":
        zone(tmp_path, "intel-rapl:0", 1)
        (tmp_path / "intel-rapl:0" / "energy_uj").unlink()  # root reads any file, so that one cannot be forbidden here
    monkeypatch.setattr(energy, "packages", lambda found=energy.packages: found(tmp_path))
    assert np.isnan(energy.counter()())


def test_the_clock_tells_computing_from_waiting_and_counts_the_joules_of_a_call(monkeypatch):
    counted = iter([10.0, 14.0, 15.0])
    monkeypatch.setattr(energy, "counter", lambda: lambda: next(counted))
    clock = Clock()
    first, second = (clock.given(TRAINING, 0.0, jax.numpy.zeros(())).result() for _ in range(2))
    assert (first.joules, second.joules) == (4.0, 1.0) and first.seconds >= first.device_seconds >= 0


def test_what_is_not_known_stays_so():
    old = Spent.from_values({"seconds": 3.0, "step": 4})
    whole = old.plus(Spent(1.0, 1.0, 1.0)).share(2)
    assert whole.seconds == 2.0 and whole.as_values() == {"seconds": 2.0}
    assert Spent.from_values(Spent(1.0, 2.0, 3.0).as_values()) == Spent(1.0, 2.0, 3.0)


@pytest.mark.slow
def test_records_have_seconds_of_the_devices_and_joules_where_they_are_counted(tmp_path, monkeypatch):
    used = iter(range(10**6))
    monkeypatch.setattr(energy, "counter", lambda: lambda: float(next(used)))
    runner = Runner(files.open_workdir(tmp_path), TrainingOptions())
    runner.run(runner.plan(grid(tiny("transformer"), {"seed": [0, 1]}), 2), Progress(1, silent=True))
    records = [runner.records.read(name) for name in runner.records.fingerprints()]
    assert len(records) == 2 and records[0]["joules"] == records[1]["joules"] >= 0.5
    assert all(0 < record["device_seconds"] <= record["seconds"] for record in records)
