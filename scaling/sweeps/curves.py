"""The logs of a pack's segments, and the curves of runs that are joined from them."""

import warnings

import numpy as np

from scaling import experiment as experiments
from scaling.devices import hosts
from scaling.results import logs
from scaling.sweeps.plan import Pack


class Curves:
    """The logs of a pack: one for each trunk and segment, logs/<run>-<segment>.jsonl."""

    def __init__(self, pack: Pack, workdir, writers):
        self.pack, self.workdir, self.writers = pack, workdir, writers
        self.seals: dict[str, list[dict]] = {}  # {segment: seals of its closed logs, see `logs.curve_seal`}, in process 0

    def open(self, segment: str, at: int, seals=None) -> list[logs.Logger]:
        """The logger of each trunk for a segment that goes on at step `at`, in process 0; none in the other processes.

        `seals` are those of the logs at that step.
        """
        if not hosts.is_lead():
            return []
        # A point is named after the last step that it covers, so a run that resumes at step `at` keeps the point `at`.
        return [logs.Logger(self.workdir, _name(segment, trunk), self.writers, at + 1, directory="logs",
                            config=experiments.to_dict(trunk.runs[-1].experiment), seal=seal)
                for trunk, seal in zip(self.pack.trunks, seals or [None] * len(self.pack.trunks), strict=True)]

    def put(self, segment: str, curves) -> None:
        """Writes the log of each trunk, from points that an earlier command logged."""
        for trunk, points in zip(self.pack.trunks, curves, strict=True):
            logs.write_curve(self.workdir / "logs" / f"{_name(segment, trunk)}.jsonl", points)

    def close(self, segment: str, loggers) -> None:
        self.seals[segment] = [logger.seal() for logger in loggers]
        for logger in loggers:
            logger.close()

    def join(self, index: int, segments: dict[str, int]) -> tuple[list[dict], int]:
        """(training curve of a run of trunk number `index`, the number of points that it has lost).

        `segments` are the names of closed segments, each with the last step that the curve takes from it.
        """
        trunk, points, lost = self.pack.trunks[index], [], 0
        for segment, last in segments.items():
            seal = self.seals[segment][index]
            path = self.workdir / "logs" / f"{_name(segment, trunk)}.jsonl"
            found, problem = logs.examine_curve(path, {**seal, "lost": 0})
            if problem:
                warnings.warn(problem, stacklevel=2)
            points += [point for point in found if point.get("step", np.inf) <= last]
            lost += seal.get("lost", 0) + (max(1, seal["points"] - len(found)) if problem else 0)
        if lost:
            warnings.warn(f"the curve of a run in the trunk of {trunk.runs[-1].fingerprint} lacks {lost} or more points, "
                          "also where it is judged whether its training broke down", stacklevel=2)
        return points, lost


def _name(segment, trunk) -> str:
    return f"{trunk.runs[-1].fingerprint}-{segment}"
