"""A tiny study in this process, the commands that read its workdir, and what they found and said."""

import contextlib
import functools
import io
import random
import re
import shutil
import warnings
from unittest import mock

import jax
import numpy as np
import tiny_study
from launcher import results

import scaling
from experiments._errors import expected
from scaling import laws, report
from scaling.devices import exits
from scaling.store import checkpoint, files
from scaling.study import configs
from scaling.study.study import Study
from scaling.sweeps import segments
from scaling.sweeps.runner import TrainingOptions

SMALL = {"sizes": (5e3, 9e3), "learning_rates": (4e-3,), "target_size": 9e3, "target_tokens": 20_480}
REWRITTEN = ("locks", "report")  # folders whose files nothing reads


class Kept(dict):
    """The programs of all studies of this process, which are compiled once."""

    def clear(self):
        pass


PROGRAMS = Kept()


def start(workdir, corpus, checkpoint_seconds=1e9):
    """Runs the study in `workdir` from where it is, with intervals of few refits, which take most of its time."""
    config = tiny_study.get_config()
    config.update(SMALL)
    config.data.name, config.data.batch = f"text:{corpus}/*.txt", 8  # one sequence for each device of the tests
    options = TrainingOptions(checkpoint_seconds=checkpoint_seconds, steps_per_call=4)
    with mock.patch.object(laws, "bootstrap", functools.partial(laws.bootstrap, draws=30)):
        study = Study(configs.define_study(tiny_study, config), workdir, options, 1, "test")
        study.runner.programs.kept = PROGRAMS
        study.go()


def stop_after(saves, workdir, corpus, monkeypatch):
    """Runs the study until its `saves`-th checkpoint is saved, as SIGTERM does."""
    seen, save = [], checkpoint.Checkpoints.save

    def counted(self, step, *args, **kwargs):
        seen.extend([step] if "checkpoints" in str(self._directory) else [])
        return save(self, step, *args, **kwargs)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpoints, "save", counted)
        patch.setattr(segments.exits, "preempted", lambda: len(seen) >= saves)
        with contextlib.suppress(exits.Preempted):
            start(workdir, corpus, checkpoint_seconds=0)
    return len(seen)


def damage(workdir, rng):
    """Flips a bit of a random file of a random kind, and returns the file's path in the workdir."""
    kinds = {}
    for path in sorted(p for p in workdir.rglob("*") if p.is_file() and p.stat().st_size):
        inside = path.relative_to(workdir)
        if inside.parts[0] not in REWRITTEN:
            kind = re.sub(r"[0-9a-f]{8,}|\d+", "*", str(inside))
            kinds.setdefault(kind, []).append(inside)
    path = rng.choice(kinds[rng.choice(sorted(kinds))])
    content = bytearray((workdir / path).read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    (workdir / path).write_bytes(content)
    return path


def read(workdir, corpus, run=True):
    """({command: what it found}, {command: what it said}) of every command that reads the workdir; `run` last."""
    def load():
        columns = ["bits_per_byte", "loss", "flops", "diverged", "tokens_seen"]
        frame = scaling.load(workdir).set_index("fingerprint")
        return frame[[name for name in columns if name in frame]].to_dict("index")

    def restore():
        restored = scaling.restore(workdir)
        return restored.fingerprint, [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(restored.params)]

    def fit():
        return laws.fit(laws.Runs.from_workdir(workdir), "chinchilla", delta="noise").params

    def page():
        report.write(workdir)
        return sorted((workdir / "report").glob("*.html"))[0].read_text()

    def again():
        start(workdir, corpus)
        fitted = files.read_json(workdir / "fit.json")["params"]
        return results(workdir), fitted, files.read_json(workdir / "forecast_check.json")["observed"]

    found, said = {}, {}
    for command in (load, restore, fit, page, *([again] if run else [])):
        printed = io.StringIO()
        with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(printed), \
                contextlib.redirect_stderr(printed):
            warnings.simplefilter("always")
            try:
                found[command.__name__] = command()
            except expected() as error:
                found[command.__name__] = None
                assert "\n" not in str(error), error
                printed.write(f"error: {error}\n")
        said[command.__name__] = printed.getvalue() + "".join(
            f"{w.message}\n" for w in caught if issubclass(w.category, UserWarning))
    return found, said


def trial(whole, folder, corpus, expected, seed):
    """Damages a copy of `whole`. Returns (damaged path, {command: problem}) of commands that are wrong and say nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    path = damage(folder, random.Random(seed))
    found, said = read(folder, corpus)
    said["page"] += found["page"] or ""  # it shows what is missing
    names = {path.name, *path.parts[1:3]} - {"state", "meta", "trunk"}
    names |= {name.rpartition(".")[0] for name in names if "." in name}
    names = {name for name in names if not name.isdigit()}  # a step is a number of any page
    wrong = {}
    for command, value in found.items():
        if command == "page":
            same = value is not None and shown(value) == shown(expected["page"])
        else:
            same = repr(value) == repr(expected[command])
        if not same and not any(name in said[command] for name in names):
            wrong[command] = f"{str(value)[:200]} said {said[command][-500:] if command != 'page' else ''}"
    return path, wrong


def shown(page):
    """The text of a page without what is measured and drawn anew."""
    text = re.sub(r"<svg.*?</svg>|<script.*?</script>|<style.*?</style>|data:[^\"]*|<[^>]*>", " ", page, flags=re.S)
    return re.sub(r"\d{4}-\d\d-\d\d[^<]{0,20}|\s+", " ", text)
