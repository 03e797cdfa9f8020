"""A bit flipped in any file of a workdir leaves every command right, or is said; and the study can go on."""
import pytest
from flipped_bits import read, start, stop_after, trial

TRIALS = 50  # of each of the two workdirs


@pytest.fixture(scope="module")
def workdirs(corpus, tmp_path_factory):
    """{name: (workdir, what the commands find in it)} of a finished study and of one that was stopped."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("SCALING_DATA_DIR", str(folder / "data"))
        stop_after(24, folder / "half", corpus, monkeypatch)
        for _ in range(2):  # the second one writes what a finished study measures from then on
            start(folder / "finished", corpus)
        final, _ = read(folder / "finished", corpus)  # the last of what it reads starts the study a third time
        final = {**final, **read(folder / "finished", corpus, run=False)[0]}  # which measured the planned time anew
        before, _ = read(folder / "half", corpus, run=False)
        yield {"finished": (folder / "finished", final), "half": (folder / "half", {**before, "again": final["again"]})}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["finished", "half"])
def test_a_flipped_bit_is_said_or_changes_nothing(workdirs, corpus, tmp_path, name):
    workdir, expected = workdirs[name]
    wrong = {}
    for seed in range(TRIALS):
        path, problems = trial(workdir, tmp_path / "copy", corpus, expected, seed)
        print(seed, path, problems, flush=True)
        if problems:
            wrong[str(path)] = problems
    assert not wrong
