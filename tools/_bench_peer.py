"""One training run in torch, or with nanodo, as a script that a user would write and launch once per configuration.

    python -m tools._bench_peer '{"who": "torch", "case": {...}, "tokens": ..., "data": "tokens.npz", "output": ...}'

It trains as many tokens as the package's run, logs a loss every four steps, evaluates on the same evaluation sets, and
writes its record last. It imports only what such a script needs.
"""

import json
import pathlib
import sys

import numpy as np

from tools._bench_cases import WARMUP

COOLDOWN, LOG_EVERY = 0.2, 4


def schedule(step, steps, rate):
    """Warm-up, constant, and a fall as 1 - sqrt(progress), as in the package."""
    start = steps - round(COOLDOWN * steps)
    progress = min(1.0, max(0.0, (step - start + 1) / (steps - start + 1)))
    return rate * min(1.0, (step + 1) / WARMUP) * (1 - progress**0.5)


def with_torch(case, settings, data, sets, log):
    import torch

    from tools import _torch_text
    torch.manual_seed(0)
    model = _torch_text.make("torch", case["vocab"], case["length"], case["width"], case["layers"], case["heads"])
    step, steps, batch = _torch_text.trainer(model), settings["steps"], case["batch"]
    for at in range(steps):
        rows = np.arange(at * batch, (at + 1) * batch) % len(data)
        loss = step(torch.from_numpy(data[rows].astype(np.int64)), schedule(at, steps, settings["rate"]))
        log(at, loss.item)
    with torch.inference_mode():
        return [float(np.mean([model.nats(torch.from_numpy(part.astype(np.int64))).item() for part in parts]))
                for parts in sets]


def with_nanodo(case, settings, data, sets, log):
    from tools import _bench_nanodo
    model = _bench_nanodo.Nanodo(settings["nanodo"], case["vocab"], case["length"], case["width"], case["layers"],
                                 case["heads"], settings["rate"], settings["steps"])
    state, batch, losses = model.init(), case["batch"], None
    for at in range(settings["steps"]):
        rows = np.arange(at * batch, (at + 1) * batch) % len(data)
        before, (state, losses) = losses, model.step(state, data[rows][:, :-1].astype(np.int32))
        if before is not None:
            log(at - 1, before.item)  # one step late, so that the device does not wait
    log(settings["steps"] - 1, losses.item)
    return [float(np.mean([model.evaluate(state[0], part[:, :-1].astype(np.int32)).item() for part in parts]))
            for parts in sets]


def main():
    settings = json.loads(sys.argv[1])
    case, output = settings["case"], pathlib.Path(settings["output"])
    settings["steps"] = settings["tokens"] // (case["batch"] * case["length"])
    with np.load(settings["data"]) as found:
        data = found["train"][:settings["steps"] * case["batch"]]
        sets = [found[name] for name in sorted(found) if name != "train"]
    sets = [np.array_split(rows, max(1, len(rows) // case["batch"])) for rows in sets]
    with output.with_suffix(".curve").open("w") as curve:
        def log(step, loss):
            if (step + 1) % LOG_EVERY == 0:
                curve.write(json.dumps({"step": step + 1, "loss": loss()}) + "\n")
        train = {"torch": with_torch, "nanodo": with_nanodo}[settings["who"]]
        evaluations = train(case, settings, data, sets, log)
    output.write_text(json.dumps({"evaluations": evaluations, **settings}))


if __name__ == "__main__":
    main()
