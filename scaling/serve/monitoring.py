"""What Prometheus reads at /metrics: requests, tokens, seconds, the queue, the slots, and the drift of the model."""

import logging
import threading
from collections.abc import Callable

import jax
import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from scaling.fields import ConfigError, DataError
from scaling.study.restored import RestoredRun, RestoreError

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Meters:
    """The figures of one server, in a registry of its own."""

    def __init__(self):
        self.registry = CollectorRegistry()
        self.requests = self._make(Counter, "scaling_requests", "Requests that were answered.", "route", "status")
        self.seconds = self._make(Histogram, "scaling_request_seconds", "Seconds to the end of an answer.", "route",
                                  buckets=SECONDS)
        self.first = self._make(Histogram, "scaling_first_token_seconds", "Seconds to the first token of a request.",
                                buckets=SECONDS)
        self.tokens = self._make(Counter, "scaling_tokens", "Tokens that were read and written.", "kind")
        self.screened = self._make(Counter, "scaling_screened", "What screens said of prompts, texts and images.", "screen",
                                   "kind", "verdict")
        self.finished = self._make(Counter, "scaling_texts", "Texts that ended, by why they did.", "reason")

    def _make(self, kind, name, what, *labels, **options):
        return kind(name, what, labels, registry=self.registry, **options)

    def watch(self, name: str, what: str, value: Callable[[], float]) -> None:
        """A gauge that asks for its value when it is read."""
        self._make(Gauge, name, what).set_function(value)

    def page(self) -> bytes:
        """The figures as text."""
        return generate_latest(self.registry)


class Canary:
    """The loss of one fixed held-out example, measured again and again: it moves only if the model that is served, or what
    computes it, is not what it was at the start.

    `drift` is the loss now minus that at the start, in nats per token of text or per dimension of images.
    """

    def __init__(self, loss: Callable[[], float], every: float = 60.0):
        """`loss` measures, and `every` says how many seconds lie between two measurements."""
        self._loss, self._every, self._stop = loss, every, threading.Event()
        self.start = self.now = loss()
        self._thread = threading.Thread(target=self._work, name="canary", daemon=True)

    @property
    def drift(self) -> float:
        return self.now - self.start

    def measure(self) -> None:
        """Measures now. What cannot be measured any more is NaN."""
        try:
            self.now = self._loss()
        except Exception:  # the figure says so, and serving goes on
            logging.exception("the loss of the canary cannot be measured")
            self.now = float("nan")

    def begin(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()

    def _work(self):
        while not self._stop.wait(self._every):
            self.measure()


def find_canary(run: RestoredRun, text: str | None = None, every: float = 60.0) -> Canary | None:
    """A canary on `text` or, without it, on the first held-out example. None where the run's data or loss are not there."""
    try:
        if text is None:
            batch = next(run.batches())
            examples = {name: jax.tree.map(lambda x: np.asarray(x)[:1], values) for name, values in batch.items()}
        else:
            examples = text
        return Canary(lambda: float(run.loss(examples).mean()), every)
    except (ConfigError, DataError, RestoreError) as error:
        if text is not None:
            raise
        logging.warning("there is no canary, because %s", error)
        return None
