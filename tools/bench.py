"""How fast the package is on this machine, compared with plain torch, GPT-2 of transformers, and nanodo, in one command.

    python -m tools.bench
    python -m tools.bench --parts=rates --sizes='S0,vae/*' --modes=single --seconds=5
    python -m tools.bench --nanodo=/path/to/nanodo --output=bench.json --record

The parts, each of which can run alone:

  rates     tokens/s (images: steps/s) and MFU, for one run over all devices ("single") and one run per core ("packed")
  sweeps    three sweeps as whole commands, from the command to the last record; a peer is launched once per configuration
  startup   from the command to the first step, with cold and with warm caches
  compile   seconds to compile the train step, by depth
  loader    tokens/s that each way of feeding a program gives
  packing   packs of 1, 4 and 16 runs
  microbatch  every size of a microbatch, beside the one that is chosen; only where --parts names it
  attention causal attention, and XLA's version of it
  memory    the most memory that a process needs

Every contestant is a process of its own that waits while the others run. Contestants take turns, several times, so that a
busy moment of the machine meets all of them. A figure is the median of its repeats, with the least and the largest; a ratio
is the median of the ratios of each repeat, and more than 1 says that the package is faster (or needs less memory). MFU is
the model's FLOPs per second over the rate of matrix products, which is measured in the same turns.

Peers: "torch" is the package's own network written in eager torch (tools/_torch_*.py); "gpt2" is GPT2LMHeadModel of the
same width, depth and heads; "nanodo" is that package's model, loss and optimiser in one jitted step. Any of them may be
absent: a sentence says what was left out. On a CPU the package has one XLA device per core, torch takes one thread or all,
whichever is faster, and nanodo has JAX's default, one device with all cores. Data are random and lie in memory, except for
sweeps and loaders.

Run it on an idle machine: repeats in which other processes take part of the cores are done again. On one core that other
work shares, "taskset -c 1 python -m tools.bench --parts=rates --clock=processor" counts the time in which the core worked
for the contestant. --record appends the results to docs/speed_history.jsonl and draws docs/speed.md from it again.
--add=bench.json does so with results that earlier commands wrote; --page only draws the page. Timings of accelerators:
tools.bench_accelerator.
"""

import argparse
import datetime
import functools
import json
import pathlib
import sys
import time

from tools import _bench_cases as cases
from tools import _bench_history as history
from tools import _bench_parts, _bench_sweeps
from tools._bench_workers import CLOCKS, Failed, Team, cores, ratios, spread

PARTS = {"rates": _bench_parts.rates, "sweeps": _bench_sweeps.sweeps, "startup": _bench_parts.startup,
         "compile": _bench_parts.compilation, "loader": _bench_parts.loader, "packing": _bench_parts.packing,
         "attention": _bench_parts.attention, "memory": _bench_parts.memory, "microbatch": _bench_parts.microbatch}
USUAL = tuple(part for part in PARTS if part != "microbatch")  # where --parts names none
MODES = ("single", "packed")
RISES = ("tokens/s", "steps/s")  # units of which more is better; of others less is


class Bench:
    """What is measured and how, and the results so far."""

    def __init__(self, flags, team):
        self.team, self.small, self.seconds, self.modes = team, flags.small, flags.seconds, flags.modes
        self.repeats, self.sweep_repeats = flags.repeats, flags.sweep_repeats
        self.all_cases = cases.TINY if flags.small else (*cases.TEXTS, *cases.IMAGES)
        others = () if flags.small else (*cases.MEMBERS, *cases.OTHER_IMAGES)
        self.cases = cases.matching((*self.all_cases, *others),
                                    flags.sizes or [case.name for case in self.all_cases])
        self.sweeps = cases.matching(cases.TINY_SWEEPS if flags.small else cases.SWEEPS, flags.sweeps)
        self.depths = cases.TINY_DEPTHS if flags.small else cases.DEPTHS
        self.packs = cases.TINY_PACKS if flags.small else cases.PACKS
        self.attentions = cases.TINY_ATTENTIONS if flags.small else cases.ATTENTIONS
        self.how = {"microbatch": flags.microbatch} if flags.microbatch else None
        self.begun, self.output = time.monotonic(), flags.output
        self.until = self.begun + flags.budget_seconds
        self.head = {"date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M"), "commit": history.commit(),
                     "machine": history.machine(team.clock), "versions": history.versions(), "command": flags.command}
        self.measurements: list[dict] = []
        self.part = ""  # which is under way
        self.notes: list[str] = list(team.left_out)

    @functools.cached_property
    def devices(self) -> int:
        """The number of devices that the package trains on."""
        return self.team.worker("ours").ask("devices")["count"]

    def products(self) -> float:
        """FLOP/s of matrix products on all devices, now."""
        size, seconds = (64, 0.01) if self.small else (1024, 0.3)
        return self.team.worker("ours").ask("products", size=size, seconds=seconds)["rate"]

    def say(self, text):
        """What is going on, on the line of the terminal that the next text replaces."""
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def note(self, text):
        """A sentence that belongs to the results."""
        self.say("")
        self.notes.append(text)
        print(text, flush=True)

    def attempt(self, what, measure, *arguments):
        """Measures one thing. If it fails, or if the time is up, a note says so and the rest goes on."""
        if time.monotonic() > self.until:
            self.note(f"{what}: left out, the time is up")
            return
        try:
            measure(self, *arguments)
        except Failed as error:
            self.note(f"{what}: {error}")

    def add(self, part, what, unit, ours, theirs, **more):
        """A result: measurements of ours and of each peer, in the order of the repeats. The rest of `more` is kept too."""
        def ratio(values):
            return ratios(ours, values) if unit in RISES else ratios(values, ours)

        found = {"part": part, "what": what, "unit": unit, "ours": spread(ours),
                 "peers": {who: spread(values) for who, values in theirs.items()},
                 "ratios": {who: ratio(values) for who, values in theirs.items()}, **more}
        self.measurements.append(found)
        self.say("")
        print(history.sentence(found), flush=True)
        self.save()

    def content(self) -> dict:
        """All results so far, with what is known of the machine and of the code."""
        seconds = time.monotonic() - self.begun
        return self.head | {"seconds": seconds, "notes": self.notes, "measurements": self.measurements}

    def save(self):
        """Writes the results so far to the file of --output, if any, so that a command that is stopped keeps them."""
        if self.output:
            history.merge(self.output, self.content())


def parse(argv=None):
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tools.bench", description=__doc__, formatter_class=as_written)

    def some(choices):
        def read(text):
            found = tuple(text.split(","))
            if unknown := [name for name in found if name not in choices]:
                raise argparse.ArgumentTypeError(f"there is no {unknown[0]!r}; write some of {','.join(choices)}")
            return found
        return read

    def words(text):
        return tuple(filter(None, text.split(",")))

    parser.add_argument("--parts", type=some(tuple(PARTS)), default=USUAL, help="some of " + ",".join(PARTS))
    parser.add_argument("--sizes", type=words, help="names or patterns of models, such as S0,'vae/*'; "
                        f"all of {', '.join(case.name for case in (*cases.TEXTS, *cases.IMAGES))} by default")
    parser.add_argument("--modes", type=some(MODES), default=MODES, help="single, packed or both (default)")
    parser.add_argument("--sweeps", type=words, default=("*",), help="names or patterns of sweeps, all by default: "
                        + ", ".join(sweep.name for sweep in cases.SWEEPS))
    parser.add_argument("--peers", type=some(Team.PEERS), default=Team.PEERS, help="some of " + ",".join(Team.PEERS)
                        + "; all that are installed by default")
    parser.add_argument("--nanodo", type=pathlib.Path, help="a checkout of nanodo to compare with")
    parser.add_argument("--seconds", type=float, default=5.0, help="of stepping for each figure, over all its repeats (5)")
    parser.add_argument("--repeats", type=int, default=5, help="turns that each contestant takes (5)")
    parser.add_argument("--sweep_repeats", type=int, default=1, help="how often each whole sweep is trained (1)")
    parser.add_argument("--budget_seconds", type=float, default=float("inf"),
                        help="after this time no new figure is begun, and one under way ends with its repeat")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help="wall (default), or processor: rates by the "
                        "time in which the one core that the command may use worked for the contestant")
    parser.add_argument("--microbatch", type=int, default=0, help="examples of a piece; 0 lets the package choose")
    parser.add_argument("--small", action="store_true", help="measure tiny sizes, to check that the command works")
    parser.add_argument("--output", type=pathlib.Path, help="a JSON file to write; results of other parts in it are kept")
    parser.add_argument("--figure", type=pathlib.Path, help="a PNG file of the ratios to write")
    parser.add_argument("--record", action="store_true", help="append to docs/speed_history.jsonl, and draw docs/speed.md")
    parser.add_argument("--add", type=pathlib.Path, help="a file of --output: append its results to the history, draw the "
                        "page, and measure nothing")
    parser.add_argument("--page", action="store_true", help="draw docs/speed.md from its history, and measure nothing")
    flags = parser.parse_args(argv)
    if flags.nanodo and not (flags.nanodo / "nanodo" / "model.py").is_file():
        parser.error(f"--nanodo={flags.nanodo} has no nanodo/model.py; name a checkout of google-deepmind/nanodo")
    if flags.add and not flags.add.is_file():
        parser.error(f"--add={flags.add} is no file; name one that --output wrote")
    for name in ("repeats", "sweep_repeats", "seconds"):
        if not getattr(flags, name) > 0:
            parser.error(f"--{name}={getattr(flags, name)} measures nothing; write a number above 0")
    return parser, flags


def main(argv=None):
    parser, flags = parse(argv)
    from tools import _bench_page  # it draws, which whoever only asks for help need not wait for
    if flags.page or flags.add:
        if flags.add:
            history.record(json.loads(flags.add.read_text()))
        print(f"written: {', '.join(map(str, _bench_page.draw()))}")
        return
    if flags.clock == "processor" and (flags.parts != ("rates",) or cores() > 1):
        parser.error(f"--clock=processor measures rates on one core, not {','.join(flags.parts)} on {cores()}; "
                     "write taskset -c 0 before the command and add --parts=rates --modes=single")
    flags.command = "python -m tools.bench " + " ".join(sys.argv[1:] if argv is None else argv)
    with Team(flags.peers, flags.nanodo and flags.nanodo.resolve(), flags.clock) as team:
        try:
            bench = Bench(flags, team)
        except ValueError as error:
            parser.error(str(error))
        for sentence in team.left_out:
            print(sentence)
        try:
            for bench.part in flags.parts:
                bench.attempt(bench.part, PARTS[bench.part])
        except KeyboardInterrupt:
            bench.note("stopped: what follows is left out")
    content, written = bench.content(), []
    if flags.output:
        bench.save()
        written.append(flags.output)
    if flags.figure:
        _bench_page.draw_figure(flags.figure, history.lines(content))
        written.append(flags.figure)
    if flags.record:
        history.record(content)
        written += _bench_page.draw()
    print(f"{content['seconds']:.0f} s" + (f"; written: {', '.join(map(str, written))}" if written else ""))


if __name__ == "__main__":
    main()
