"""Reports on compiled programs as text: one in full, or one line each."""

from scaling.figures.words import count, plural

GIB = 2**30


def format_report(result: dict) -> str:
    """The report of `attempt` or `nearest_that_fits`, as lines of text."""
    if "error" in result:
        return result["error"]
    mesh = " x ".join(f"{axis}={n}" for axis, n in result["mesh"].items() if n > 1) or "one device"
    where = f"{result['topology']}" + (f" x {result['slices']} slices" if result["slices"] > 1 else "")
    each = "device (half a chip)" if result["chip"]["devices"] > 1 else "chip"
    packed = f" in {result['runs']} packed runs" if result["runs"] > 1 else ""
    lines = [f"{result['experiment']['family']['name']}, {count(result['params'])} parameters{packed}, on {where}: "
             f"{result['chips']} chips, {mesh}, layout {result['layout']}, "
             f"{plural(result['gradients_per_step'], 'gradient')} a step", ""]
    lines += _bytes(result, each)
    if result["fits"]:
        lines += ["", *_flops(result, each), "", *_collectives(result, each), "", *_roofline(result)]
    took = result["compile"]
    elapsed = took["lower_seconds"] + took["compile_seconds"]
    lines += ["", f"compiled in {elapsed:.0f} s with {took['memory'] / GIB:.1f} GiB here",
              f"the chip's figures: {result['chip']['source']}"]
    if result.get("instead"):
        lines += ["", f"What fits: {result['change']}", "", format_report(result["instead"])]
    elif "tried" in result:
        lines += ["", "Nothing that was tried fits:", *(f"  {line}" for line in result["tried"])]
    return "\n".join(lines)


def _bytes(result, each):
    sizes = result["bytes"]
    lines = [f"memory of a {each}"]
    names = {"parameters": "parameters", "optimiser": "optimiser state", "average": "averaged parameters",
             "batch": "batches", "temporaries": "gradients, activations, temporaries", "code": "program", "peak": "peak"}
    lines += [f"  {text:<38}{sizes[key] / GIB:10.3f} GiB" for key, text in names.items() if sizes.get(key)]
    verdict = "fits" if result["fits"] else f"DOES NOT FIT. {result['why']}"
    return [*lines, f"  {'a program may have':<38}{sizes['memory'] / GIB:10.3f} GiB   {verdict}"]


def _flops(result, each):
    f = result["flops"]
    return [f"work of a {each} in one step",
            f"  {'the model, each operation once':<38}{f['model'] / 1e12:10.3f} TFLOP",
            f"  {'the compiled program, loops counted':<38}{f['compiled'] / 1e12:10.3f} TFLOP   "
            f"{f['compiled'] / f['model']:.2f} times the model's",
            f"  {'XLA, every loop body once':<38}{(f['loops_once'] or 0) / 1e12:10.3f} TFLOP",
            f"  {'to and from memory':<38}{result['traffic'] / 1e9:10.3f} GB"]


def _collectives(result, each):
    rows = result["collectives"]
    lost = []
    if result.get("unread"):
        lost.append(f"  {result['unread']} more collectives could not be read: these bytes and the ICI time are too low")
    if not rows:
        return lost or ["nothing is sent between chips"]
    lines = [f"sent by a {each} in one step",
             f"  {'kind':<30}{'mesh axes':<20}{'over':<6}{'times':>7}{'payload MB':>13}{'sent MB':>11}"]
    for row in rows:
        lines.append(f"  {row['kind']:<30}{' x '.join(row['axes']) or '-':<20}{row['network'].upper():<6}{row['count']:>7}"
                     f"{row['payload'] / 1e6:>13.3f}{row['sent'] / 1e6:>11.3f}")
    return [*lines, f"  {'together':<76}{bytes_sent(result) / 1e6:>11.3f}", *lost]


def _roofline(result):
    r = result["roofline"]
    parts = ", ".join(f"{name} {format_seconds(r[key])}" for name, key in
                      (("compute", "compute"), ("HBM", "hbm"), ("ICI", "ici"), ("DCN", "dcn")))
    return ["a step at the chip's published rates", f"  {parts}",
            f"  bound by {r['bound']}: {format_seconds(r['overlapped'])} if all overlaps (MFU {r['mfu_overlapped']:.0%}), "
            f"{format_seconds(r['serial'])} if nothing does (MFU {r['mfu_serial']:.0%})"]


def format_seconds(value: float) -> str:
    for unit, size in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return "0" if not value else f"{value * 1e9:.2g} ns"


def report_row(result: dict) -> str:
    """A report as one line of a Markdown table under `report_header`."""
    where = result["topology"] + (f" x {result['slices']}" if result["slices"] > 1 else "")
    mesh = " x ".join(f"{axis} {n}" for axis, n in result["mesh"].items() if n > 1) or "one device"
    took, family = result["compile"], result["experiment"]["family"]["name"]
    state = sum(result["bytes"][key] for key in ("parameters", "optimiser", "average"))
    cells = [f"{family} {count(result['params'])}", where, mesh, f"{state / GIB:.3g}",
             f"{(result['bytes'].get('peak') or 0) / GIB:.3g} of {result['bytes']['memory'] / GIB:.3g}"]
    if result["fits"]:
        r, f = result["roofline"], result["flops"]
        cells += [f"{f['model'] / 1e12:.3g}", f"{f['compiled'] / f['model']:.2f}", f"{bytes_sent(result) / 1e6:.4g}",
                  *(format_seconds(r[k]) for k in ("compute", "hbm", "ici", "dcn")), r["bound"],
                  f"{r['mfu_serial']:.0%} to {r['mfu_overlapped']:.0%}"]
    else:
        cells += ["does not fit", *[""] * 8]
    elapsed = took["lower_seconds"] + took["compile_seconds"]
    cells += [f"{elapsed:.0f}", f"{took['cpu_seconds']:.0f}", f"{took['memory'] / GIB:.1f}"]
    return "| " + " | ".join(cells) + " |"


POLICY_COLUMNS = ("remat", "microbatches", "peak GiB", "temporaries GiB", "compiled / model", "HBM GB", "sent MB",
                  "compute", "HBM", "ICI", "bound", "step, overlapped", "step, serial", "compile s")


def policies_header() -> str:
    """The head of the table of `policy_row`."""
    return "| " + " | ".join(POLICY_COLUMNS) + " |\n" + "|---" * len(POLICY_COLUMNS) + "|"


def policy_row(name: str, result: dict) -> str:
    """The report on a program with the rematerialisation of this name, as one line of a Markdown table."""
    took, sizes = result["compile"], result["bytes"]
    peak = f"{(sizes.get('peak') or 0) / GIB:.3g} of {sizes['memory'] / GIB:.3g}"
    cells = [name, str(result["gradients_per_step"]), peak]
    if result["fits"]:
        r, f = result["roofline"], result["flops"]
        cells += [f"{sizes['temporaries'] / GIB:.3g}", f"{f['compiled'] / f['model']:.2f}",
                  f"{result['traffic'] / 1e9:.3g}", f"{bytes_sent(result) / 1e6:.4g}",
                  *(format_seconds(r[k]) for k in ("compute", "hbm", "ici")), r["bound"],
                  format_seconds(r["overlapped"]), format_seconds(r["serial"])]
    else:
        cells += ["does not fit", *[""] * 9]
    return "| " + " | ".join([*cells, f"{took['lower_seconds'] + took['compile_seconds']:.0f}"]) + " |"


def bytes_sent(result: dict) -> float:
    """Bytes that a device sends in one step in all collectives."""
    return sum(row["sent"] for row in result["collectives"])


def report_header() -> str:
    names = ["model", "slice", "mesh", "state GiB", "peak GiB", "model TFLOP", "compiled / model", "sent MB", "compute",
             "HBM", "ICI", "DCN", "bound", "MFU", "compile s", "CPU s", "GiB here"]
    return "| " + " | ".join(names) + " |\n" + "|---" * len(names) + "|"
