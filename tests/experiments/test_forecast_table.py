"""experiments.forecast_table trains the studies of a config in turn, and the fitted runs of a group once."""

import pytest
from boxed_flags import TABLE

with TABLE:
    from experiments import forecast_table

CONFIG = """
def names():
    return ["a-10", "a-30", "b-10", "b-30"]
def get_config(study="a-10"):
    raise ValueError
def sweep(config):
    raise ValueError
"""


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """trained(names) trains them in tmp_path/runs with commands that finish at once, and returns [(name, fork or None)]."""
    path, runs, called = tmp_path / "table.py", tmp_path / "runs", []
    path.write_text(CONFIG)

    class Finishes:
        def __init__(self, command, stdout):
            words = dict(word.lstrip("-").split("=", 1) for word in command if "=" in word)
            folder = runs / words["config"].rpartition(":")[2]
            (folder / "report").mkdir(parents=True)
            for name in ("forecast_check.json", "report/index.html"):
                (folder / name).write_text("{}")
            called.append((folder.name, words["fork"].rpartition("/")[2] if "fork" in words else None))

        def wait(self):
            return 0

        def terminate(self):
            pass

    monkeypatch.setattr(forecast_table.subprocess, "Popen", Finishes)
    monkeypatch.setattr(forecast_table.signal, "signal", lambda *heed: None)

    def train(names, hours=None):
        called.clear()
        assert forecast_table.train(str(path), names, runs, hours) == 0
        return list(called)
    return train


def test_a_study_begins_with_the_runs_of_one_of_its_group(trained):
    assert trained(["a-10", "a-30", "b-10"]) == [("a-10", None), ("a-30", "a-10"), ("b-10", None)]
    assert trained(["a-10", "a-30", "b-10"]) == []  # they are finished


def test_a_study_that_is_asked_for_alone_takes_the_runs_of_a_finished_one(trained):
    trained(["b-10"])
    assert trained(["b-30"]) == [("b-30", "b-10")]


def test_no_study_starts_after_the_hours(trained, capsys):
    assert trained(["a-10", "a-30"], hours=0.0) == []
    assert capsys.readouterr().out.count("left for the next command") == 2
