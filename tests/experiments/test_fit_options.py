"""experiments.fit's options: laws of one's own, a fit for each group, isoFLOP's options, and what the study fitted."""
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from forked_command import ROOT
from planted_table import TRUTH, table, table_of

from scaling import laws

LAW = '''from scaling.laws import Amplitude, Form, Parameter

form = Form("mine", "E + A x^-c", "me", ("x",), (Amplitude("E"), Amplitude("A")), (Parameter("c", 0.01, 4.0),),
            lambda p, log: (0.0, -p.c * log.x))
'''


def read(path):
    return json.loads(path.read_text())


def test_a_law_of_ones_own_is_fitted_from_its_file(fit_command, tmp_path):
    x = np.geomspace(1e3, 1e7, 10)
    pd.DataFrame({"width": x, "acc": 0.9 - 0.7 * x ** -0.2}).to_csv(tmp_path / "points.csv", index=False)
    (tmp_path / "mine.py").write_text(LAW)
    ran = fit_command("--points=points.csv", "--form=mine.py", "--columns=x=width/1e3", "--y=1 - acc", "--output=fit")
    assert ran.code == 0, ran.err
    law = laws.load_fit(tmp_path / "fit/fit.json")
    assert law.params == pytest.approx({"E": 0.1, "A": 0.7 * 1e3 ** -0.2, "c": 0.2}, rel=1e-4)
    assert read(tmp_path / "fit/fit.json")["form_file"]["path"] == str(tmp_path / "mine.py")
    (tmp_path / "mine.py").write_text(LAW.replace("p.c", "p.b"))
    ran = fit_command("--points=points.csv", "--form=mine.py", "--columns=x=width", "--y=acc")
    assert ran.code == 1 and "mine.py" in ran.err and "'b'" in ran.err and ran.err.count("\n") == 1


def test_each_group_has_a_fit_a_folder_and_rows_in_one_table(fit_command, tmp_path):
    frame = table(noise=0.003)
    pd.concat([frame.assign(kind="a"), frame.assign(kind="b/c", loss=1.2 * frame["loss"]), frame[:3].assign(kind="few"),
               frame[:1].assign(kind=None)]).to_csv(tmp_path / "points.csv", index=False)
    ran = fit_command("--points=points.csv", "--each=kind", "--bootstrap=40", "--output=each", "--figures")
    assert ran.code == 1 and ran.err.count("\n") == 1 and "few" in ran.err and "3 points" in ran.err
    saved = read(tmp_path / "each/each.json")
    rows = pd.DataFrame(saved["table"]).set_index(["group", "parameter"])
    assert "1 of 64 runs have no kind" in ran.out and saved["folders"] == {"a": "a", "b/c": "b_c", "few": "few"}
    assert rows.loc[("b/c", "E"), "value"] == pytest.approx(1.2 * rows.loc[("a", "E"), "value"], rel=1e-6)
    for group in ("a", "b/c"):
        one = read(tmp_path / "each" / saved["folders"][group] / "fit.json")
        for name in TRUTH:
            assert rows.loc[(group, name), "value"] == one["params"][name]
            assert list(rows.loc[(group, name), ["low", "high"]]) == pytest.approx(one["intervals"][name])
    assert (tmp_path / "each/each.png").stat().st_size > 1000


def test_an_option_that_fails_leaves_the_fit(fit_command, tmp_path):
    table(noise=0.003).to_csv(tmp_path / "points.csv", index=False)
    ran = fit_command("--points=points.csv", "--holdout_compute=1e30", "--isoflop", "--frontier=1e21", "--output=fit")
    assert ran.code == 1
    assert [line.split(":")[1].strip() for line in ran.err.splitlines()] == ["--holdout_compute", "--isoflop"]
    content = read(tmp_path / "fit/fit.json")
    assert content["params"]["alpha"] == pytest.approx(TRUTH["alpha"], rel=0.2) and content["frontier"]
    assert "isoflop" not in content and "--isoflop_tolerance=" in ran.err


def test_resampling_that_is_not_possible_leaves_the_fit(fit_command, tmp_path):
    table()[::6].to_csv(tmp_path / "points.csv", index=False)
    ran = fit_command("--points=points.csv", "--law=tied_chinchilla", "--fix=E=1.69", "--bootstrap=10", "--output=one")
    assert ran.code == 0 or "single value" in ran.err
    table(0.01)[:5].assign(tokens=[1e9, 2e9, 3e9, 4e9, 6e9]).to_csv(tmp_path / "points.csv", index=False)
    ran = fit_command("--points=points.csv", "--bootstrap=10", "--output=two")
    assert ran.code == 1 and "--bootstrap: 5 points and 5 parameters" in ran.err
    assert "intervals" not in read(tmp_path / "two/fit.json")


def test_isoflop_takes_its_options(fit_command, tmp_path):
    C = np.repeat([1e19, 1e20, 1e21], 10)
    N = np.sqrt(C / 120) * np.tile(np.geomspace(0.2, 4, 10), 3)
    frame = table_of(N, C / (6 * N), noise=0.001).assign(budget=np.repeat(["s", "m", "l"], 10))
    frame.to_csv(tmp_path / "points.csv", index=False)
    runs = laws.Runs.from_csv(tmp_path / "points.csv")
    for flags, options in ((["--isoflop_curve=cubic", "--isoflop_budgets=budget"],
                            {"method": "cubic", "budgets": "budget"}),
                           (["--isoflop_curve=akima", "--isoflop_budgets=1e19,1e21", "--isoflop_tolerance=0.2"],
                            {"method": "akima", "budgets": [1e19, 1e21], "tolerance": 0.2})):
        ran = fit_command("--points=points.csv", "--isoflop", *flags, "--output=fit", "--overwrite")
        assert ran.code == 0, ran.err
        saved, expected = read(tmp_path / "fit/fit.json")["isoflop"], laws.isoflop(runs, **options)
        assert saved["params"]["a"] == pytest.approx(expected.a) and saved["method"] == options["method"]


def test_counted_flops_say_how_well_they_are_reproduced(fit_command, tmp_path):
    frame = table(noise=0.003)
    frame.assign(flops=frame["flops"] * np.where(np.arange(30) % 2, 1.1, 1.0)).to_csv(tmp_path / "points.csv", index=False)
    ran = fit_command("--points=points.csv", "--frontier=1e21", "--cost=counted")
    assert ran.code == 0 and "! The FLOPs that the runs counted are no smooth function" in ran.out


def test_a_study_is_fitted_as_it_fitted_itself_unless_flags_differ(fit_command, tmp_path):
    from report_study import fill
    fill(tmp_path / "study")
    law = laws.fit(laws.Runs.from_workdir(tmp_path / "study"), "tied_chinchilla", delta="noise", weights="seeds")
    laws.save_fit(tmp_path / "study/fit.json", law)
    assert fit_command("--workdir=study", "--output=same").code == 0
    same = read(tmp_path / "same/fit.json")
    assert same["params"] == law.params and same["form"] == "tied_chinchilla" and same["delta"] == law.spec.delta != 1e-3
    assert fit_command("--workdir=study", "--law=chinchilla", "--delta=1e-3", "--output=other").code == 0
    other = read(tmp_path / "other/fit.json")
    assert other["form"] == "chinchilla" and other["delta"] == 1e-3
    assert other["params"] == laws.fit(laws.Runs.from_workdir(tmp_path / "study"), weights="seeds").params
    (tmp_path / "study/fit.json").unlink()   # a study that has not fitted yet: what it will do
    assert fit_command("--workdir=study", "--law=tied_chinchilla", "--output=new").code == 0
    assert read(tmp_path / "new/fit.json")["params"] == law.params


def test_flags_name_the_columns_of_a_workdir_as_they_do_those_of_a_table(fit_command, tmp_path):
    from report_study import fill
    fill(tmp_path / "study")
    runs = laws.Runs.from_workdir(tmp_path / "study")
    runs.frame.to_csv(tmp_path / "points.csv", index=False)
    named = ("--y=bits_per_byte", "--law=interaction", "--params=2 * params_total - params_non_embedding",
             "--columns=D=flops")
    assert fit_command("--workdir=study", "--output=one", *named).code == 0
    assert fit_command("--points=points.csv", "--output=other", *named).code == 0
    one, other = (read(tmp_path / name / "fit.json") for name in ("one", "other"))
    assert one["params"] == other["params"] != laws.fit(runs, "interaction").params
    assert fit_command("--workdir=study", "--params=params_routed").code == 1


def test_a_workdir_is_filtered_by_the_runs_that_its_study_plans(tmp_path):
    from report_study import fill
    fill(tmp_path)
    every = laws.Runs.from_workdir(tmp_path)
    planned = [name for names in every.frame["fingerprints"][:-4] for name in names]
    about = read(tmp_path / "study.json")
    (tmp_path / "study.json").write_text(json.dumps(about | {"runs": planned}))
    assert sorted(laws.Runs.from_workdir(tmp_path).y) == sorted(every.y[:-4])
    (tmp_path / "study.json").write_text(json.dumps(about | {"runs": ["none"]}))
    with pytest.raises(laws.LawError, match="no record yet of the 1 runs"):
        laws.Runs.from_workdir(tmp_path)


def test_a_reader_that_leaves_is_no_error_and_the_fit_is_written(tmp_path):
    table(noise=0.003).to_csv(tmp_path / "points.csv", index=False)
    command = (f"{sys.executable} -m experiments.fit --points={tmp_path}/points.csv --bootstrap=10 --nofigures "
               f"--output={tmp_path}/fit | (read line; exit 0); echo ${{PIPESTATUS[0]}}")
    ran = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (ran.stdout.strip(), ran.stderr) == ("0", "") and (tmp_path / "fit/fit.json").exists()
