"""Load test of `experiments.serve`: many clients at once beside one request at a time, on this machine, in one run.

    python -m tools.bench_serve --workdir=runs/quickstart
    python -m tools.bench_serve --workdir=runs/quickstart --clients=64 --requests=256 --tokens=64 --output=serve.json

It starts the server twice, with --slots texts side by side and with one, and sends the same requests, each with a prompt
and a seed of its own, in three ways: from --clients clients at once to the first server, and one after the other to both.
Half of those that come one after the other are sent before the many and half after them, so that a machine that slows down
hurts both alike. It checks that nothing is lost and that every request gets the same text in all three ways, and prints
seconds, tokens per second, and ratios.

Exit status: 0; 1 where a request was lost or got another text.
"""

import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import numpy as np

PROMPTS = ("def ", "import ", "class Reader:\n    ", "# The ", "for i in range(", "return self.", "if not ", "try:\n    ")


def start(workdir: str, run: str, slots: int, tokens: int) -> tuple[subprocess.Popen, int]:
    """A server, and its port."""
    command = [sys.executable, "-m", "experiments.serve", f"--workdir={workdir}", f"--run={run}", "--port=0",
               f"--slots={slots}", "--queue=4096", "--prompt_tokens=64", f"--new_tokens={tokens}", "--seconds=600"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    found = re.search(r"served at http://127\.0\.0\.1:(\d+)$", process.stdout.readline().strip())
    if not found:
        sys.exit(f"error: the server did not start: {' '.join(command)}")
    return process, int(found[1])


def ask(port: int, number: int, tokens: int) -> dict:
    """The answer to request `number`, and its seconds. A connection of its own, as most clients have."""
    body = {"prompt": PROMPTS[number % len(PROMPTS)], "max_tokens": tokens, "temperature": 0.8, "seed": number}
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    if response.status != 200:
        return {"error": answer, "seconds": time.perf_counter() - began}
    return {"text": answer["choices"][0]["text"], "tokens": answer["usage"]["completion_tokens"],
            "seconds": time.perf_counter() - began}


def measure(port: int, numbers, tokens: int, clients: int) -> dict:
    """What requests with these numbers got from so many clients, and the seconds that all of them took."""
    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        answers = dict(zip(numbers, pool.map(lambda number: ask(port, number, tokens), numbers)))
    return {"answers": answers, "seconds": time.perf_counter() - began}


def together(parts: list[dict]) -> dict:
    """Several measurements as one."""
    return {"answers": {number: answer for part in parts for number, answer in part["answers"].items()},
            "seconds": sum(part["seconds"] for part in parts)}


def summarize(found: dict) -> dict:
    """Requests, errors, tokens per second, and the seconds of a request."""
    answers = found["answers"].values()
    seconds = [answer["seconds"] for answer in answers]
    return {"requests": len(answers), "lost": sum("error" in answer for answer in answers),
            "tokens_per_second": sum(answer.get("tokens", 0) for answer in answers) / found["seconds"],
            "p50_seconds": float(np.percentile(seconds, 50)), "p99_seconds": float(np.percentile(seconds, 99))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--workdir", required=True, help="the directory of a study whose run writes text")
    parser.add_argument("--run", default="best", help="which run, as in experiments.serve")
    parser.add_argument("--clients", type=int, default=64, help="clients at once")
    parser.add_argument("--requests", type=int, default=256, help="requests from all of them")
    parser.add_argument("--alone", type=int, default=32, help="how many of these are also sent one after the other")
    parser.add_argument("--tokens", type=int, default=64, help="the most tokens of a text")
    parser.add_argument("--slots", type=int, default=8, help="texts side by side")
    parser.add_argument("--output", help="a new JSON file for the figures")
    args = parser.parse_args()
    if args.output and os.path.exists(args.output):
        sys.exit(f"error: {args.output} exists: name another file")
    if not 2 <= args.alone <= args.requests:
        sys.exit("error: --alone must be from 2 to --requests")
    servers = [start(args.workdir, args.run, slots, args.tokens) for slots in (args.slots, 1)]
    many, one = (port for _, port in servers)
    halves = range(args.alone // 2), range(args.alone // 2, args.alone)
    try:
        for port in (many, one):  # the first request of a process is slower
            ask(port, 0, args.tokens)
        before = [measure(port, halves[0], args.tokens, 1) for port in (many, one)]
        crowd = measure(many, range(args.requests), args.tokens, args.clients)
        after = [measure(port, halves[1], args.tokens, 1) for port in (many, one)]
    finally:
        for process, _ in servers:
            process.terminate()
            process.wait()
    ways = {f"{args.clients} clients, {args.slots} slots": crowd,
            f"one at a time, {args.slots} slots": together([before[0], after[0]]),
            "one at a time, 1 slot": together([before[1], after[1]])}
    found = {name: summarize(way) for name, way in ways.items()}
    alone = [way["answers"] for way in ways.values()][1:]
    other = [number for number in range(args.alone)
             for way in alone if way[number].get("text") != crowd["answers"][number].get("text")]
    rates = [each["tokens_per_second"] for each in found.values()]
    result = {"ways": found, "other_texts": len(other), "ratio_same_server": rates[0] / rates[1],
              "ratio_one_slot": rates[0] / rates[2]}
    for name, each in found.items():
        print(f"{name:<28} {each['requests']:>4} requests, {each['lost']} lost; {each['tokens_per_second']:7.1f} tokens/s; "
              f"p50 {each['p50_seconds']:.3f} s, p99 {each['p99_seconds']:.3f} s")
    print(f"throughput of many beside one at a time: {result['ratio_same_server']:.2f} times that of the same server, "
          f"{result['ratio_one_slot']:.2f} times that of a server of one slot")
    print(f"{len(other)} of {2 * args.alone} texts differ from those that the same requests got in the crowd")
    if args.output:
        pathlib.Path(args.output).write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(1 if other or any(each["lost"] for each in found.values()) else 0)


if __name__ == "__main__":
    main()
