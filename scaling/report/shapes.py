"""What each JSON file of a workdir must hold before a page uses it: the keys and the kinds of their values.

A file that was edited, or damaged so that it still is JSON, is found here, and not by a traceback in some section.
"""

from __future__ import annotations

from scaling.results.tuned import PARAMS

# A shape is a type, a tuple of types, [shape of every item], [shape, shape] for a list of just these, or {key: shape}.
# A key that ends in "?" may be absent or null, and "*" stands for every key. None allows null.
NUMBER = (int, float)
BOUND = (*NUMBER, None)
DIAGNOSTIC = ({"message": str}, str)
SHAPES: dict[str, object] = {
    "study": {
        "title?": str, "metric?": str, "unit?": str, "family?": str, "law?": str, "command?": str, "git_commit?": str,
        "beside?": [str], "config?": ({"*": object}, str), "versions?": {"*": object}, "seconds?": NUMBER, "mfu?": NUMBER,
        "matmul_flops_per_second?": NUMBER, "hardware_utilisation?": NUMBER, "runs?": [str], "target?": object,
        "planned?": {"*": {"*": object}},
        "bracketing?": {"runs?": [str], "budget?": NUMBER, "spent?": NUMBER, "sampler?": {"*": object}},
        "stopping?": {"runs": NUMBER, "saved": NUMBER, "of": NUMBER},
        "failed?": ({"*": str}, [str]), "data?": [{"name?": str, "fingerprint?": str, "contents?": {"*": object}}],
        "plan?": {"runs?": NUMBER, "programs?": NUMBER, "flops?": NUMBER, "flops_executed?": NUMBER, "seconds?": NUMBER}},
    "fit": {
        "form": str, "formula?": str, "params": {"*": NUMBER}, "columns?": {"*": str}, "points?": [{"*": object}],
        "frontier?": [{"flops": NUMBER, "loss": NUMBER}], "intervals?": {"*": [BOUND, BOUND]}, "level?": NUMBER,
        "standard_errors?": {"*": BOUND}, "noise?": NUMBER, "delta?": NUMBER, "loss?": str, "quantile?": NUMBER,
        "space?": str, "weights?": [NUMBER], "diagnostics?": [DIAGNOSTIC],
        "settings?": {"*": object}, "exponents?": {"*": object},
        "selection?": {"rule": str, "law": str, "factor": NUMBER, "level": NUMBER, "tested?": NUMBER, "notes?": [str],
                       "covered?": [BOUND, BOUND], "weights?": {"*": NUMBER}, "spread?": {"*": NUMBER},
                       "table?": [{"law": str, "parameters": NUMBER}]},
        "bootstrap?": {"method?": str, "draws?": NUMBER, "diagnostics?": [DIAGNOSTIC]}, "manifest?": {"*": object}},
    "forecast": {
        "predicted": NUMBER, "interval": [NUMBER, NUMBER], "level": NUMBER, "time?": str, "hash?": str,
        "compute_ratio?": NUMBER, "parts?": {
            "space": str, "parameters": NUMBER, "noise": NUMBER, "evaluation": NUMBER, "forms": NUMBER, "factor": NUMBER,
            "total": NUMBER, "predicted?": {"*": NUMBER}},
        "target": {f"{PARAMS}?": NUMBER, "fingerprint?": str, "flops?": NUMBER}},
    "forecast_check": {"observed": NUMBER, "predicted": NUMBER, "inside": bool, "time?": str, "forecast_hash?": str},
    "samples": [{PARAMS: NUMBER, "text": str, "prompt?": str, "label?": str, "fingerprint?": str,
                 "target?": str}],
    "baselines": {"floor?": {"*": BOUND}, "memoriser?": [{"*": BOUND}], "ngram?": [{"*": BOUND}]},
    "pictures": [{PARAMS: NUMBER, "name": str, "path": str, "fingerprint?": str, "examine?": {"*": NUMBER}}],
    "sounds": [{"path": str, "label": str, f"{PARAMS}?": NUMBER, "fingerprint?": str, "prompt?": str,
                "score?": str, "recordings?": NUMBER}],
    "examine": [{PARAMS: NUMBER, "metrics": {"*": BOUND}, "label?": str, "fingerprint?": str}],
    "positions": [{PARAMS: NUMBER, "bits": [{"first": NUMBER, "last": NUMBER, "bits": NUMBER}], "fingerprint?": str}]}


def fault(content, shape, where: str = "") -> str:
    """What is wrong with `content`, as a part of a sentence ("predicted is missing"), or "" where it has the shape."""
    if shape is object:
        return ""
    if isinstance(shape, tuple):
        faults = [fault(content, each, where) for each in shape if each is not None]
        return "" if "" in faults or (content is None and None in shape) else faults[0]
    if isinstance(shape, dict):
        return _fault_of_keys(content, shape, where)
    if isinstance(shape, list):
        if not isinstance(content, list):
            return f"{where or 'its content'} is not a list"
        if len(shape) > 1 and len(content) != len(shape):
            return f"{where} has {len(content)} values, not {len(shape)}"
        shapes = shape if len(shape) > 1 else shape * len(content)
        return next((found for i, pair in enumerate(zip(content, shapes)) if (found := fault(*pair, f"{where}[{i}]"))), "")
    if isinstance(content, shape) and (shape is bool or not isinstance(content, bool)):
        return ""
    kind = {str: "a text", bool: "true or false", float: "a number", int: "a number"}[shape]
    return f"{where} is not {kind}"


def _fault_of_keys(content, shape: dict, where: str) -> str:
    if not isinstance(content, dict):
        return f"{where or 'its content'} is not an object with keys"
    for key, of in shape.items():
        name = key.removesuffix("?")
        if name == "*":
            found = next((said for k, v in content.items() if (said := fault(v, of, f"{where}.{k}".lstrip(".")))), "")
        elif content.get(name) is None and key != name:
            continue
        elif name not in content:
            found = f"{f'{where}.{name}'.lstrip('.')} is missing"
        else:
            found = fault(content[name], of, f"{where}.{name}".lstrip("."))
        if found:
            return found
    return ""
