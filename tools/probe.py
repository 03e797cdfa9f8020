"""Look into finished runs: probes, induction, logit lens, sparse autoencoders, attention and attribution, on one page.

    python -m tools.probe --workdir=runs/insight --runs=sizes --output=insight
    python -m tools.probe --workdir=runs/quickstart --runs=best --prompt='class Reader:' --json

writes a page, index.html, that opens offline, its figures as PNG, and every number in insight.json. Linear probes read
known factors from the activations of each layer: the syntax class and the depth of indentation in Python source, and what
is known of each image, such as the character, font, slant and size of a glyph. Induction is measured with tokens in random
order, said twice, also at earlier steps where checkpoints are kept. The lens, attention and attribution show one --prompt,
and sparse autoencoders explain the middle layer; these are of the largest run with the most data. docs/insight.md says how
each is computed and what it cannot show.

--runs names runs as `scaling.restore` does: best, N=3e5, or a fingerprint or its start, several with commas; "sizes" is
the tuned run of each size with the most data, and "all" every run of the study that did not diverge. Exit status: 0; 1 when
a run cannot be read, or nothing can be said of it; 2 for wrong flags. The reason is one sentence on standard error.
"""

import contextlib
import sys

from absl import flags
from etils import epath

from scaling.fields import DataError
from scaling.insight import insight_page, looking
from scaling.insight.activations import InsightError
from scaling.results import planned
from scaling.store import files, strict_json
from scaling.study.restore import restore
from scaling.study.restored import RestoreError
from tools import _checkpoints
from tools import _checkpoints_across as across

_WORKDIR = flags.DEFINE_string("workdir", None, "A study, whose runs are looked into.")
_RUNS = flags.DEFINE_list("runs", ["best"], "The runs: best, N=3e5, fingerprints, sizes (one of each), or all.")
_PARTS = flags.DEFINE_multi_enum("part", looking.PARTS, looking.PARTS, "What is measured; repeat it for several.")
_PROMPT = flags.DEFINE_string("prompt", "class Reader:\n    def __init__(self, name):\n        self.na",
                               "A text to look at.")
_OUTPUT = flags.DEFINE_string("output", None, "The directory of the page; by default insight/ in the workdir.")
_JSON = flags.DEFINE_bool("json", False, "Print every number as one line of JSON, text to standard error.")


def main():
    if not _WORKDIR.value:
        raise flags.Error("give --workdir, the directory of a study")
    try:
        measure()
    except (RestoreError, InsightError, DataError) as error:
        raise _checkpoints.CheckpointsError(str(error)) from None


def measure() -> None:
    """Looks into the runs that the flags name, and writes the page and the numbers."""
    workdir = files.open_workdir(_WORKDIR.value)
    names = chosen(workdir, _RUNS.value)
    with contextlib.redirect_stdout(sys.stderr):
        found = looking.look_into([restore(workdir, name) for name in names], _PARTS.value, _PROMPT.value)
    if not any(found[part] for part in looking.PARTS):
        raise InsightError("; ".join(found["left_out"]))
    output = epath.Path(_OUTPUT.value or workdir / "insight").expanduser()
    path = insight_page.write_insight(found, output, f"Inside the runs of {workdir.name}")
    files.write_json(output / "insight.json", found)
    said = insight_page.insight_sentences(found)
    text = [sentence for part in said.values() for sentence in part] + [f"left out, {why}" for why in found["left_out"]]
    print("\n".join([*text, f"written: {path}"]), file=sys.stderr if _JSON.value else sys.stdout)
    if _JSON.value:
        print(strict_json.dumps(found | {"page": str(path)}))


def chosen(workdir, names) -> list[str]:
    """The names of the runs that --runs asks for, each once."""
    table, _ = planned.load_planned(workdir)
    listed = []
    for name in names:
        if name == "sizes":
            listed += [path.name for path, _ in across.best(workdir, None)]
        elif name == "all":
            listed += list(table.loc[~table["diverged"].astype(bool), "fingerprint"])
        else:
            listed.append(name)
    if not listed:
        raise RestoreError(f"{workdir} has no finished run yet")
    return list(dict.fromkeys(listed))


if __name__ == "__main__":
    _checkpoints.run(main)
