"""docs/speed.md and its figure, drawn from the history of `tools.bench`."""

import pathlib

from scaling.figures import plot
from scaling.figures.plot import COLOURS, HUES, SHAPES
from tools import _bench_cases as cases
from tools._bench_history import FIGURE, HISTORY, PAGE, PEERS, amount, day, digest, latest, read
from tools._bench_workers import QUIET

HEAD = """# Speed

How fast the package trains on one machine, beside plain torch, GPT-2 of transformers, and nanodo. All figures are
measured by one command, which takes turns between the contestants, several times. A figure is the median, and a ratio
the median of the ratios of each turn: 2.0 says that the package is twice as fast. In brackets are the least and the
largest. This page is drawn from `docs/speed_history.jsonl`, which keeps every measurement with its date, commit and
machine; here are the last of each.

![Speed relative to torch, GPT-2 and nanodo, for each model](figures/speed.png)
"""

FOOT = """## How to measure

```bash
python -m tools.bench                                        # everything, about half an hour on two cores
python -m tools.bench --parts=rates --sizes='S0,vae/*'       # some parts and sizes
python -m tools.bench --parts=sweeps --sweeps='data sizes'   # one sweep
python -m tools.bench --output=bench.json --figure=bench.png # results for a program, and the figure
python -m tools.bench --record                               # adds to the history and draws this page again
python -m tools.bench --add=bench.json                       # does so with the results in a file
python -m tools.bench_families                               # every family at two sizes, beside torch
taskset -c 1 python -m tools.bench --parts=rates --modes=single --clock=processor   # on a core that other work shares
```

Use an idle machine. `--nanodo=/path/to/nanodo` names a checkout to compare with; torch and transformers take part where
they are installed. `--seconds` and `--repeats` set the length of a figure, `--budget_seconds` of the whole, and
`--microbatch` overrides the package's choice. [GPUs and TPUs](gpu.md) have a benchmark of their own.

## Fast and plain

What is fast has a plain form beside it, and tests say that both give the same values and gradients to rounding. How a
run is computed is no part of its name. `--config.fast=False` takes the plain form of everything for which no other
field names one: products, derivatives and layers as JAX writes them, XLA's default options, and a sum of the
gradients over the devices in every microbatch. For S1 on eight devices and four microbatches the collectives of a
step then carry 13.5 MB where the fast form has 3.4 (layout `data`), and 23.3 MB where it has 20.9 (`fsdp` over four).
Single fields choose for themselves:

| fast | plain |
| --- | --- |
| attention without whole scores | `--config.family.attention=xla` |
| cross-entropy in blocks of the vocabulary | `--config.family.cross_entropy=whole` |
| convolutions as products | `--config.family.convolution=xla` |
| Muon on small matrices, divided among devices | `--config.optim.orthogonalise=plain` |
| unrolled layers | `--config.family.scan=True` |
| microbatches that fit a cache | `--config.microbatch=32`: all that a device has of a batch |
| runs side by side in one program | `--pack=1` |
| batches from the devices' memory | `--config.data.feed=streamed` |
| programs and counts of earlier commands | `SCALING_COMPILATION_CACHE=off SCALING_REMEMBERED=off` |
| trunks of earlier commands | `--keep_trunks=none` |
| programs compiled while others train | `TrainingOptions(compile_ahead=False)`, in Python |

## What bounds it

Where time goes, by `jax.profiler` and by counting, on the machines above:

* **S2, one run**: matrix products at full rate are 62% of the devices' time, so no code could be more than 1.75 times
  as fast as torch there. Slices and concatenations (rotary halves, attention's blocks) take 9%, copies between
  attention's layouts 6%, softmax and its derivative 4%, sums over rows 3%, and the rest is elementwise. Rotation by a
  reversal (0.89 of the speed at S0), XLA's vector width, fast math, schedulers and oneDNN fusions (1.00 to 1.02) were
  tried without gain.
* **vae/tokens**: at 1e4 parameters devices wait for each other in the sum of gradients for 28% of the time, and the
  likelihood takes 28%. At 5e5, products take 41%, that sum 11%, the likelihood 7%; packed, products take 54%.
* **recurrent/lstm/1e5**: on one core, forward and backward passes of the recurrence reach 24 to 29 GFLOP/s of its products,
  and 50 where sums stand in for the gates: sigmoids and hyperbolic tangents, and the chain rule through them, take about
  half of the time. Such products alone, of 4 and of 32 rows, run at 108 and 129. Torch's LSTM is one kernel of oneDNN for
  a whole sequence, and its GRU is not. Eight steps in one iteration of the compiled loop (`--config.family.unroll=8`) take
  12 to 15% longer. At 1e6 the package reaches 44% of the rate of products alone and torch's kernel 76%; where that time
  goes was not taken apart.
* **The sweep "data sizes"**: of 50 s, 6 s pass before training. Of the 37 s of training, evaluation takes 18% and
  waiting for programs 20%; the rest runs at 52% of the rate of matrix products. At that rate alone all products would
  take 14.5 s.
* **Compilation of S0**, 8.5 s of CPU time: the loss and its gradient 3.5 s, the optimiser 1.5 s, and the loop over
  steps 3.5 s, which orders the data, sums microbatches and collects metrics. nanodo compiles a step without these. One
  piece in place of four, or one device in place of two, changes it by less than 7%; `--config.fast=False` takes 18%
  less.
* **A warm start**: 1.0 s of 2.4 are imports, mostly JAX's, and 1.2 s the plan, which reads and checks the data.

## Time and energy of a run

A record has `seconds`, in which the devices computed for the run or waited for its program, `device_seconds`, in which
they computed, and `joules`, where a counter of energy could be read: that of NVIDIA's driver (`pip install
nvidia-ml-py`), or Linux's powercap for CPUs, which root reads, and everyone after `chmod a+r
/sys/class/powercap/*/energy_uj`. Runs that train side by side have equal shares of each. Jobs of several hosts have no
`joules`.

## What is compared

* **Models**: S0 is a Transformer of width 64 with 2 layers and 2 heads, S1 128, 4 and 4, S2 256, 6 and 8, S3 512, 8
  and 8, on batches of 32 x 256 bytes; images are batches of 64 grey ones of 16x16, and other families of sequences
  read 32 x 128 bytes, or pairs of them, with about as many parameters as the name says. All is float32. Rates are of
  training steps on data in memory.
* **By processor time**: a machine whose name ends so is one core that other work shared. A rate is then of the time in
  which the core worked for the contestant, which leaves out waiting, but not what the others do to caches and memory.
* **One run** uses every device of the machine. **Packed**, as many runs train side by side as there are cores; torch
  then has one process of one thread for each.
* **MFU** is the FLOPs of the model (forward and backward pass, attention at its causal half) over those that matrix
  products alone reach on the same devices, measured in the same turns.
* **torch** is the package's own network in eager torch, written as a good user would: `scaled_dot_product_attention`,
  one product for queries, keys and values, fused AdamW, one thread or all, whichever is faster. Numbers of parameters
  agree within 1%.
* **GPT-2** is `GPT2LMHeadModel` of the same width, depth and heads, without dropout, with the same attention and AdamW.
* **nanodo** is its model, loss and optimiser, read from a checkout, in one jitted step that donates its state.
* **Whole sweeps** run from the command to the last record, evaluation included, with empty caches. A peer is a script
  for one configuration, `tools/_bench_peer.py`, which trains and evaluates on the same tokens and is launched once per
  configuration, one after another, with all cores. Configurations that differ only in the learning rate cost the same,
  so one launch is measured for each number of tokens and each model, and multiplied. The sweeps are in
  `tools/_bench_config.py`.
* **Start-up** is from the command to each point of a study of one S0 run of four steps. With cold caches nothing was
  compiled or counted before, with warm ones the same command was.
* **Microbatches** are the examples that a device computes at once. "/ 4 examples" is the speed of the package's choice
  over that of four.
* **Compilation** is of the train step, traced and compiled with no cache.
* **Attention** is causal, forward and backward, of 4 sequences on each device, beside `jax.nn.dot_product_attention`.
* **Memory** is the most that a new process holds from its start through two training steps, libraries included.
"""

TITLES = {"rates": "Training", "sweeps": "Whole sweeps", "startup": "Start-up", "compile": "Compilation",
          "loader": "Loaders", "packing": "Packing", "microbatch": "Microbatches", "attention": "Attention",
          "memory": "Memory"}
WORDS = {  # of the points of tools/_startup.py
    "imported": "the package is imported", "planned": "the plan is printed", "called": "the first step is called",
    "first_step": "the first step is done", "end": "the command has ended",
    "cpu_first_step": "the first step is done, CPU time", "cpu_end": "the command has ended, CPU time"}


def draw(path=HISTORY) -> list[pathlib.Path]:
    """Writes the page and its figure from the history."""
    history = read(path)
    PAGE.write_text(page(history))
    draw_figure(FIGURE, history)
    return [PAGE, FIGURE]


def draw_figure(path, history):
    plot.save_figure(path, figure(history), dpi=110, about=digest(history))


def page(history) -> str:
    """The text of docs/speed.md."""
    parts = [HEAD]
    for machine, found in latest(history).items():
        dates = sorted({(line["date"], day(line), line["commit"]) for line in found.values()})
        commits = list(dict.fromkeys(commit for _, _, commit in dates if commit))
        parts.append(f"## {machine}\n\nLast measured on {dates[-1][1]}, at " + ", ".join(f"`{c}`" for c in commits) + ".\n")
        for part, title in TITLES.items():
            rows = [line for line in found.values() if line["part"] == part]
            if rows:
                parts.append(f"### {title}\n\n{_table(rows)}\n")
    if not history:
        parts.append("Nothing has been recorded yet.\n")
    return "\n".join([*parts, FOOT])


def _table(rows) -> str:
    """A Markdown table of lines of the history: what, ours, MFU where any has one, and a ratio for each peer."""
    mfu, compiled = (any(name in line for line in rows) for name in ("mfu", "compile"))
    peers = list(dict.fromkeys([*(who for who in PEERS if any(who in line["ratios"] for line in rows)),
                                *(who for line in rows for who in line["ratios"])]))
    head = ["", "measured", *(["MFU"] if mfu else []), *(["compiled in"] if compiled else []),
            *(f"/ {PEERS.get(who, who)}" for who in peers)]
    body = [[_what(line) + _disturbed(line), _figures(line["ours"], lambda value, unit=line["unit"]: amount(value, unit)),
             *([f"{line['mfu'][0]:.0%}" if "mfu" in line else ""] if mfu else []),
             *([f"{line['compile']:.1f} s" if "compile" in line else ""] if compiled else []),
             *(_figures(line["ratios"].get(who), "{:.2f}".format) for who in peers)] for line in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body])


def _what(line) -> str:
    """What was measured, in words."""
    caches, _, point = line["what"].partition(" ")
    return f"{caches} caches, until {WORDS.get(point, point)}" if line["part"] == "startup" else line["what"]


def _disturbed(line) -> str:
    others = line.get("others", 0.0)
    return f" (other processes took {others:.0%} of the cores)" if others > QUIET else ""


def _figures(figures, write) -> str:
    if figures is None:
        return ""
    median, low, high = figures
    if low == high:
        return write(median)
    return f"{write(median)} ({write(low).split()[0]} to {write(high).split()[0]})"


@plot.styled
def figure(history):
    """Ratios to each peer: a panel for each machine, the last measured one first, and a row for each model or sweep."""
    machines = {machine: found for machine, lines in latest(history).items() if (found := _rows(lines.values()))}
    last = {line["machine"]: number for number, line in enumerate(history)}
    order = sorted(machines, key=last.__getitem__, reverse=True) or ["nothing has been recorded yet"]
    tall = [1.1 + 0.26 * max(1, len(machines.get(machine, ()))) for machine in order]
    drawn, _ = plot.panels(width=7.6, height=0.5 + sum(tall))
    drawn.clear()
    for axes, machine in zip(drawn.subplots(len(order), 1, sharex=True, squeeze=False, height_ratios=tall)[:, 0], order):
        plot.dress(axes, "times as fast as", machine)
        axes.xaxis.set_tick_params(labelbottom=True)
        _panel(axes, machines.get(machine, []))
    if machines:
        handles = {label: handle for axes in drawn.axes for handle, label in zip(*axes.get_legend_handles_labels())}
        labels = [label for label in PEERS.values() if label in handles]
        drawn.legend([handles[label] for label in labels], labels, loc="outside upper center", ncols=3, frameon=False,
                     labelcolor=COLOURS.ink)
    return drawn


def _rows(lines) -> list[dict]:
    """The measurements that have ratios to peers, in order of size."""
    order = [case.name for case in (*cases.TEXTS, *cases.MEMBERS, *cases.IMAGES, *cases.OTHER_IMAGES, *cases.SWEEPS)]
    rows = [line for line in lines if line["part"] in ("rates", "sweeps") and line["ratios"]]
    return sorted(rows, key=lambda line: _place(line["what"], order))


def _panel(axes, rows):
    """Draws a row for each measurement, and the ratios to all peers in it."""
    for (who, label), colour, shape in zip(PEERS.items(), HUES, SHAPES, strict=False):
        points = [(line["ratios"][who], y) for y, line in enumerate(rows) if who in line["ratios"]]
        if points:
            (medians, lows, highs), heights = zip(*(ratio for ratio, _ in points)), [y for _, y in points]
            axes.plot(medians, heights, shape, color=colour, label=label, zorder=3)
            axes.hlines(heights, lows, highs, color=colour, zorder=2)
    axes.axvline(1.0, color=COLOURS.muted, linewidth=0.8, zorder=1)
    axes.set_yticks(range(len(rows)), [line["what"] for line in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    ticks = [0.25, 0.5, 1, 2, 4, 8]
    low, high = axes.get_xlim()
    axes.set_xticks([tick for tick in ticks if low <= tick <= high], [f"{t:g}" for t in ticks if low <= t <= high])
    axes.minorticks_off()


def _place(what, order):
    name = what.partition(",")[0]
    return (order.index(name) if name in order else len(order), not what.endswith("one run"))
