"""Studies of both image families as a user starts them: sweep, judge, fit, forecast, target, pictures, report."""

import json
import os
import pathlib
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest

from scaling.figures import pixels
from scaling.results import records
from scaling.store import files

ROOT = pathlib.Path(__file__).parents[2]
METRIC = {"vae": "bits_per_dim", "gan": "fd_infinity"}
# All stages are the same for both families; test_gan.py tests the records and pictures of a GAN in less time.
STUDIES = ["vae", pytest.param("gan", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Workdirs of finished studies by family, each trained once."""
    done, data = {}, tmp_path_factory.mktemp("data")

    def finished(family):
        if family not in done:
            workdir = tmp_path_factory.mktemp("runs") / family
            flags = [f"--config={ROOT}/tests/tiny_images.py:{family}", f"--workdir={workdir}"]
            environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {
                "XLA_FLAGS": "--xla_force_host_platform_device_count=2 --xla_cpu_multi_thread_eigen=false "
                             + os.environ["SCALING_TEST_FLAGS"],  # most of the time is compilation
                "JAX_PLATFORMS": "cpu", "SCALING_DATA_DIR": str(data), "PYTHONPATH": str(ROOT)}
            ran = subprocess.run([sys.executable, "-m", "experiments.run", *flags], cwd=ROOT, env=environment,
                                 capture_output=True, text=True, timeout=600)
            assert ran.returncode == 0, ran.stderr[-3000:]
            done[family] = workdir
        return done[family]
    return finished


@pytest.mark.parametrize("family", STUDIES)
def test_every_run_is_counted_in_examples_and_judged(study, family):
    frame = records.load_records(study(family))
    alive = frame[~frame["diverged"]]
    assert len(frame) == 17 and (frame["examples_seen"] == frame["steps"] * 8).all()
    assert np.isfinite(alive[["fd", "kid", "coverage", METRIC[family]]].to_numpy(float)).all()
    assert (alive["missed"] + alive["coverage"] - 1).abs().max() < 1e-9
    assert {"judge.name", "judge.dimension"} <= set(frame.columns)
    if family == "gan":
        assert (frame["params_gen"] + frame["params_disc"] == frame["params_total"]).all()
        assert (frame["flops_gen"] < frame["flops_disc"]).all()  # the penalties are the discriminator's
    else:
        total = alive["rate"] + alive["distortion"]
        np.testing.assert_allclose(total, alive["bits_per_dim"], rtol=1e-5)
        assert (alive["bits_per_dim_se"] > 0).all()


def test_the_forecast_of_the_vae_was_written_before_its_target_and_checked(study):
    workdir = study("vae")
    forecast, check = (json.loads((workdir / f"{name}.json").read_text()) for name in ("forecast", "forecast_check"))
    target = records.Records(workdir).read(forecast["target"]["fingerprint"])
    assert forecast["time"] <= target["finished"] and check["observed"] == target["bits_per_dim"]
    assert forecast["metric"] == "bits_per_dim" and forecast["target"]["examples_seen"] == 1024


@pytest.mark.parametrize("family", STUDIES)
def test_pictures_and_baselines_are_written_and_in_the_report(study, family):
    workdir = study(family)
    pictures = files.read_json(workdir / "pictures.json")
    names = {"vae": {"samples", "reconstructions", "interpolations", "traversals"}, "gan": {"samples", "interpolations"}}
    assert {p["name"] for p in pictures} == names[family]
    assert len({p["params_non_embedding"] for p in pictures}) >= 2
    for picture in pictures:
        image = matplotlib.image.imread(workdir / picture["path"])
        assert image.shape[0] == pixels.SCALE * (17 * picture["rows"] - 1)
    baselines = files.read_json(workdir / "baselines.json")
    assert baselines["floor"]["fd"] < min(line["fd"] for line in baselines["memoriser"])
    page = (workdir / "report" / "index.html").read_text()
    assert page.count("data:image/png") >= len(pictures) and "examples" in page
    if family == "vae":
        for end in files.read_json(workdir / "examine.json"):
            record = records.Records(workdir).read(end["fingerprint"])
            assert end["metrics"]["iwae_bits_per_dim"] <= record["bits_per_dim"] + 0.05
            assert 0 <= end["metrics"]["active_latents"] <= 1
