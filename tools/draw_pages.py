"""Draw the figures of docs/ that show how the parts work together, such as packs on GPUs, and images of data sets.

    python -m tools.draw_pages

Nothing is trained or measured. The rates come from the table of docs/hardware.md, the schedules from the package. The
screenshots of reports, and docs/figures/rooms.svg (`tools.draw_rooms`), are not made here.
"""

import pathlib
import re

import numpy as np

from scaling import data, experiment
from scaling.figures import pixels, plot
from scaling.figures.plot import COLOURS, HUES, SHAPES
from scaling.training.optim import schedule
from scaling.training.step import run_span
from tools._diagram import Diagram

DOCS = pathlib.Path(__file__).parents[1] / "docs"


def packs() -> str:
    """Eight GPUs: many small runs side by side, or one large run."""
    drawing = Diagram(860, 250, "Eight GPUs hold 64 packed runs, or one run cut into eight shards")
    for left, name, note in ((20, "--pack=64", "64 small runs, eight on each GPU, one program"),
                             (450, "--config.layout=fsdp", "one large run: each GPU holds a shard of it")):
        drawing.text(left, 30, name, "name")
        drawing.text(left, 48, note, "note")
        for gpu in range(8):
            x, y = left + (gpu % 4) * 98, 66 + (gpu // 4) * 86
            drawing.box(x, y, 90, 74, f"GPU {gpu}")
            if left == 20:
                for run in range(8):
                    drawing.rectangle(x + 9 + (run % 4) * 18, y + 32 + (run // 4) * 18, 14, 14, "deep")
            else:
                drawing.rectangle(x + 9, y + 32, 72, 32, "deep")
                drawing.text(x + 45, y + 52, f"{gpu + 1}/8", "note", "middle")
    return drawing.svg()


def tpu_slice() -> str:
    """A v5e-16: four hosts of four chips run one command and write to one bucket."""
    drawing = Diagram(860, 300, "A launcher starts one command on four hosts of a TPU slice, which write to one bucket")
    drawing.box(20, 106, 190, 88, "Your machine", "tools.launch.tpu_vm:", "create, install,", "run, delete", kind="deep")
    drawing.rectangle(262, 44, 348, 236, "frame")
    drawing.text(262, 34, "a slice of TPU v5e-16: one job of four processes; each square is a chip", "note")
    for host in range(4):
        x, y = 274 + (host % 2) * 166, 56 + (host // 2) * 112
        drawing.box(x, y, 158, 100, f"host {host}", "experiments.run")
        for chip in range(4):
            drawing.rectangle(x + 9 + chip * 36, y + 58, 30, 30, "deep")
    drawing.box(662, 90, 178, 120, "gs://my-scaling/sweep", "records", "curves", "checkpoints", "report", kind="deep")
    drawing.arrow((210, 150), (260, 150))
    drawing.arrow((610, 150), (660, 150))
    return drawing.svg()


def exchange() -> str:
    """A checkpoint of others becomes a run, and runs become checkpoints, arrays, programs and models in ONNX."""
    drawing = Diagram(860, 302, "A checkpoint of Hugging Face becomes a run, and a run becomes one of four folders")
    drawing.box(20, 115, 210, 72, "Hugging Face", "decoders: GPT-2, Llama, ...", "encoders: EuroBERT")
    drawing.box(350, 115, 160, 72, "a run", "evaluated, sampled,", "fine-tuned", kind="deep")
    folders = {"hf": "a model for transformers", "safetensors": "all arrays, by path",
               "stablehlo": "a program for jax.export", "onnx": "a model for onnxruntime"}
    for row, (form, line) in enumerate(folders.items()):
        y = 16 + row * 70
        drawing.box(620, y, 220, 58, f"--format={form}", line)
        drawing.arrow((512, 151), (618, y + 29))
    drawing.arrow((232, 151), (348, 151))
    drawing.text(290, 139, "import", "note", "middle")
    drawing.text(540, 96, "export", "note", "middle")
    return drawing.svg()


def serving() -> str:
    """Requests wait in a queue for slots, and one compiled step writes a token of each slot."""
    drawing = Diagram(860, 200, "Requests wait for slots, and one compiled step writes one token in each slot")
    drawing.box(20, 64, 150, 72, "clients", "completions, images,", "the page at /")
    drawing.box(230, 64, 130, 72, "queue", "429 when full,", "504 when too late")
    for row, text in enumerate(("a text", "a text", "free")):
        drawing.box(420, 16 + row * 58, 150, 48, f"slot {row}", text, kind="deep")
        drawing.arrow((362, 100), (418, 40 + row * 58))
        drawing.arrow((572, 40 + row * 58), (648, 100))
    drawing.box(650, 64, 190, 72, "one compiled step", "a token for each slot,", "each row on its own")
    drawing.arrow((172, 100), (228, 100))
    return drawing.svg()


def reproducing() -> str:
    """A record names all that determines a run, which is trained again and compared."""
    drawing = Diagram(860, 150, "A record determines a run, which is trained again elsewhere and compared with the record")
    drawing.box(20, 30, 190, 90, "a record", "experiment, data,", "versions, machine,", "commit, metrics")
    drawing.box(330, 30, 190, 90, "the same run", "elsewhere, with this code", "or that of the commit", kind="deep")
    drawing.box(640, 30, 200, 90, "agrees, or differs", "by more than rounding does:", "exit status 0 or 3")
    drawing.arrow((212, 75), (328, 75))
    drawing.arrow((522, 75), (638, 75))
    drawing.text(270, 64, "checks the data", "note", "middle")
    drawing.text(580, 64, "compares", "note", "middle")
    return drawing.svg()


def starts() -> str:
    """One pretraining, and three runs that begin with its parameters."""
    drawing = Diagram(860, 220, "One run is trained first, and three runs begin with its parameters")
    drawing.box(20, 74, 200, 72, "pycode/environment", "trained first, once", kind="deep")
    for row, rule in enumerate(("all", "last:2", "head")):
        y = 16 + row * 66
        drawing.box(420, y, 300, 56, f"optim.trainable={rule}", "on pycode/stdlib")
        drawing.arrow((222, 110), (418, y + 28))
    drawing.text(250, 80, "its parameters", "note")
    return drawing.svg()


def ray_cluster() -> str:
    """The driver, its queue of packs, and actors that own devices."""
    drawing = Diagram(860, 262, "A driver hands packs to Ray actors, which own devices and share a workdir")
    drawing.box(20, 74, 180, 90, "Driver", "plans, fits, reports", "on the CPU", kind="deep")
    drawing.text(250, 66, "packs that wait", "note")
    for pack in range(4):
        drawing.rectangle(250, 76 + pack * 24, 96, 18, "deep")
    drawing.arrow((200, 118), (248, 118))
    for node, (y, lines) in enumerate(((20, ("an actor: GPUs 0 to 3", "an actor: GPUs 4 to 7")),
                                       (132, ("an actor: GPUs 0 to 3", "has died: its pack waits again")))):
        drawing.box(400, y, 236, 96, f"node {node}", *lines)
        drawing.arrow((348, 118), (398, y + 48))
        drawing.arrow((636, y + 48), (688, 118))
    drawing.arrow((400, 216), (298, 216), (298, 176))
    drawing.box(690, 66, 150, 108, "the workdir", "locks of runs", "checkpoints", "records", kind="deep")
    drawing.text(20, 250, "Ray places actors. Any actor can continue a pack from its checkpoint.", "note")
    return drawing.svg()


def streaming() -> str:
    """Threads of the host read the batches of the next call while the devices compute this one."""
    drawing = Diagram(860, 190, "Threads read the next call's batches from memory-mapped blocks while the devices compute")
    drawing.box(20, 50, 170, 92, "Blocks on disk", "windows of text", "memory-mapped", kind="deep")
    drawing.box(246, 50, 170, 92, "Threads of the host", "read the steps of the", "next call in one piece")
    drawing.box(472, 50, 156, 92, "Next call", "its batches, placed", "on every device")
    drawing.box(684, 50, 156, 92, "This call", "the compiled loop", "computes its steps", kind="deep")
    for x in (190, 416, 628):
        drawing.arrow((x, 96), (x + 54, 96))
    drawing.arrow((762, 142), (762, 168), (331, 168), (331, 144))
    drawing.text(540, 162, "the state that it returns says which steps come next", "note", "middle")
    drawing.text(20, 30, "--config.data.feed=streamed", "name")
    return drawing.svg()


@plot.styled
def roofline():
    """Seconds of compute, memory traffic and network in a step of every program in docs/hardware.md's table."""
    units = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
    page = (DOCS / "hardware.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines()
            if re.match(r"\| (transformer|vae|gan) ", line)]
    names = [", ".join(row[:3]) for row in rows]
    figure, axes = plot.canvas("seconds of a step, at published rates", "")
    figure.set_size_inches(8.6, 4.6)
    columns = {7: "matrix products", 8: "memory traffic", 9: "ICI"}
    for (column, label), colour, shape in zip(columns.items(), HUES, SHAPES, strict=False):
        seconds = [float(value) * units[unit] for value, unit in (row[column].split() for row in rows)]
        axes.plot(seconds, range(len(rows)), shape, color=colour, label=label, zorder=3)
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=3, frameon=False, labelcolor=COLOURS.ink)
    return figure


@plot.styled
def trunk():
    """The learning rate of four runs that share a trunk, as the package's schedule gives it."""
    base = experiment.from_config(experiment.config("transformer"))
    tokens = (36_864, 73_728, 147_456, 294_912)
    figure, axes = plot.canvas("training tokens", "learning rate")
    axes.set_xscale("linear")
    for count, colour in zip(tokens, HUES, strict=False):
        one = base.replace({"data.tokens": count, "optim.warmup": 10})
        span = run_span(one)
        steps = np.arange(one.steps)
        rates = np.asarray(schedule(one, (span.cooldown, span.steps))(steps))
        per_step = count / one.steps
        last = span.cooldown - 1  # of the trunk
        axes.plot(steps[:last + 1] * per_step, rates[:last + 1], color=COLOURS.ink, zorder=3)
        axes.plot(steps[last:] * per_step, rates[last:], color=colour, zorder=2)
        axes.annotate(f"{count / 1e3:.0f}k", (span.cooldown * per_step, rates.max()), color=colour, xytext=(0, 5),
                      textcoords="offset points")
    axes.set_ylim(0, 1.12 * base.optim.learning_rate)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e3:.0f}k" if value else "0")
    return figure


DATASETS = ("glyphs/letters", "glyphs/digits", "glyphs/letters:rotation,size", "fashion_mnist", "digits")


def datasets() -> bytes:
    """Sixteen evaluation images of each of DATASETS, a row for each, 16 x 16 pixels in 16 levels."""
    rows = [data.load_images(name, size=16, levels=16).evaluation("iid", 16)["image"] for name in DATASETS]
    return pixels.image_grid(np.stack(rows), levels=16)


def colab() -> str:
    """The badge of a notebook in the README."""
    drawing = Diagram(112, 22, "Open in Colab")
    drawing.rectangle(0.5, 0.5, 111, 21, "deep")
    drawing.text(56, 15, "Open in Colab", "name", "middle")
    return drawing.svg()


DIAGRAMS = {"exchange.svg": exchange, "reproducing.svg": reproducing, "serving.svg": serving, "starts.svg": starts,
            "colab.svg": colab, "packs.svg": packs,
            "tpu-slice.svg": tpu_slice, "ray-cluster.svg": ray_cluster, "streaming.svg": streaming}
PICTURES = {"datasets.png": datasets}  # two of them need packages: Debian's dataset-fashion-mnist, scikit-learn
PLOTS = {"roofline.png": roofline, "trunk.png": trunk}


def main() -> None:
    for name, draw in DIAGRAMS.items():
        (DOCS / "figures" / name).write_text(draw())
    for name, draw in PLOTS.items():
        plot.save_figure(DOCS / "figures" / name, draw())
    for name, draw in PICTURES.items():
        (DOCS / "figures" / name).write_bytes(draw())
    print(f"written: {', '.join([*DIAGRAMS, *PLOTS, *PICTURES])} in {DOCS / 'figures'}")


if __name__ == "__main__":
    main()
