"""The results of `tools.bench` as sentences, as a history in the repository, and as the page docs/speed.md.

The history has one line of JSON for each measurement: {"date", "commit", "machine", "part", "what", "unit", "ours",
"mfu", "others", "compile", "ratios"}, with the figures as [median, least, largest]; `others` is the share of the cores that
other processes took meanwhile, and `compile` the seconds that the package compiled, where they are known.
"""

import datetime
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess

from scaling.figures.words import plural
from tools._bench_workers import QUIET

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"
HISTORY, PAGE, FIGURE = DOCS / "speed_history.jsonl", DOCS / "speed.md", DOCS / "figures" / "speed.png"
PEERS = {"torch": "torch", "gpt2": "GPT-2 in torch", "nanodo": "nanodo"}
SCALES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def amount(value, unit) -> str:
    """A measured number with three digits and its unit: 168k tokens/s, 2.31 s, 1.2 GB."""
    if unit == "s":
        return f"{value:.3g} s"
    scale, prefix = next((pair for pair in SCALES if abs(value) >= pair[0]), SCALES[-1])
    text = f"{value / scale:.3g}" if value < 999.5 * scale or scale == 1e9 else f"{value / scale:.0f}"
    return f"{text} {prefix}B" if unit == "bytes" else f"{text}{prefix} {unit}"


def sentence(found) -> str:
    """A measurement as one line for people."""
    ours, unit = found["ours"], found["unit"]
    text = f"{found['part']}: {found['what']}: {amount(ours['median'], unit)}"
    if ours["high"] > ours["low"]:
        text += f" ({amount(ours['low'], unit).split()[0]} to {amount(ours['high'], unit).split()[0]})"
    if "mfu" in found:
        text += f", MFU {found['mfu']['median']:.0%}"
    for who, ratio in found["ratios"].items():
        other = amount(found["peers"][who]["median"], unit)
        text += f"; {ratio['median']:.2f} x {who}" + (
            f" ({ratio['low']:.2f} to {ratio['high']:.2f})" if ratio["high"] > ratio["low"] else "") + f", {other}"
    if found.get("compile_seconds"):
        text += f"; compiled in {found['compile_seconds']:.1f} s"
    if found.get("others", 0.0) > QUIET:
        text += f"; other processes took {found['others']:.0%} of the cores"
    return text


# --------------------------------------------------------------------------------- where it was measured


def machine(clock="wall") -> str:
    """The machine in words: number of cores, their kind, memory, and the clock where it is that of the processor."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    kind = platform.processor() or platform.machine()
    try:
        info = pathlib.Path("/proc/cpuinfo").read_text()
        kind = next((line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")), kind)
    except OSError:
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0
    by = ", by processor time" if clock == "processor" else ""
    return f"{plural(cores, 'core')} of {kind}, {memory:.0f} GiB{by}"


def versions() -> dict:
    """{package: version} of those that are installed."""
    found = {}
    for name in ("jax", "jaxlib", "flax", "optax", "torch", "transformers"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit that is checked out, with a + where files differ from it; empty outside of a checkout."""
    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=DOCS, capture_output=True, text=True)

    try:
        name, changed = git("rev-parse", "--short=10", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    except OSError:
        return ""
    return "" if name.returncode else name.stdout.strip() + ("+" if changed.stdout.strip() else "")


# ------------------------------------------------------------------------------------------- files


def merge(path, content):
    """Writes results to a JSON file. Those that it holds of other measurements are kept."""
    measured = {(m["part"], m["what"]) for m in content["measurements"]}
    if path.exists():
        before = json.loads(path.read_text())
        kept = [m for m in before.get("measurements", []) if (m["part"], m["what"]) not in measured]
        stamp = {name: before[name] for name in ("date", "commit", "machine")}
        content = content | {"measurements": [stamp | m for m in kept] + content["measurements"]}
    path.write_text(json.dumps(content, indent=1) + "\n")


def lines(content) -> list[dict]:
    """The history's lines of some results."""
    def short(figures):
        return [float(f"{figures[name]:.4g}") for name in ("median", "low", "high")]

    return [{"date": found.get("date", content["date"]), "commit": found.get("commit", content["commit"]),
             "machine": found.get("machine", content["machine"]),
             "part": found["part"], "what": found["what"], "unit": found["unit"], "ours": short(found["ours"]),
             **({"mfu": short(found["mfu"])} if "mfu" in found else {}),
             **({"others": round(found["others"], 3)} if "others" in found else {}),
             **({"compile": round(found["compile_seconds"], 1)} if found.get("compile_seconds") else {}),
             "ratios": {who: short(ratio) for who, ratio in found["ratios"].items()}}
            for found in content["measurements"]]


def record(content, path=HISTORY):
    """Appends results to the history."""
    with path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines(content))


def read(path=HISTORY) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def latest(history) -> dict:
    """{machine: {(part, what): its last line}}; machines and measurements in the order in which they first came."""
    found: dict = {}
    for line in history:
        found.setdefault(line["machine"], {})[line["part"], line["what"]] = line
    return found


def digest(history) -> str:
    """Names what the figure shows; the file of the figure holds it, so that a test sees one that is out of date."""
    return hashlib.sha256(json.dumps([[*lines.values()] for lines in latest(history).values()]).encode()).hexdigest()[:16]


def day(line) -> str:
    return datetime.datetime.strptime(line["date"], "%Y-%m-%d %H:%M").strftime("%-d %B %Y")
