"""The figures of the bounce intake for Prometheus, read from its tally when somebody asks."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

REFUSALS = ("recipient", "not_yet", "too_large", "busy", "fault")
UNKEPT = ("known", "unknown_letter", "full", "untied")
NAME = "postroom_bounces"


class Tally(Protocol):
    """What is counted."""

    sessions: int
    refused: Counter[str]
    reports: Counter[str]
    unkept: Counter[str]
    letters: Counter[str]
    suppressed: Counter[str]


class ReturnFigures(Collector):
    """A registry with these figures alone."""

    def __init__(self, tally: Tally, open_sessions: Callable[[], int], ready: Callable[[], bool]) -> None:
        self._tally, self._open, self._ready = tally, open_sessions, ready
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Every figure."""
        tally = self._tally
        yield CounterMetricFamily(f"{NAME}_smtp_sessions", "SMTP sessions since the start.", tally.sessions)
        yield GaugeMetricFamily(f"{NAME}_smtp_sessions_open", "SMTP sessions now.", self._open())
        ready = "Whether every ledger and key is there, and the ledgers take reports."
        yield GaugeMetricFamily(f"{NAME}_ready", ready, float(self._ready()))
        told = "Messages that were not taken, by why: no return path of ours, a key or ledger away, size."
        yield _by(f"{NAME}_refused", told, "reason", tally.refused, REFUSALS)
        yield _by(f"{NAME}_reports", "Reports that were kept, by kind.", "kind", tally.reports)
        told = "Reports that were taken and not kept: known, letter forgotten, too many, of no letter."
        yield _by(f"{NAME}_reports_unkept", told, "reason", tally.unkept, UNKEPT)
        yield _by(f"{NAME}_letters", "Letters that a report brought to a state.", "state", tally.letters)
        told = "Addresses that a report put on a suppression list."
        yield _by(f"{NAME}_suppressions", told, "reason", tally.suppressed)


def _by(
    name: str, told: str, label: str, counts: Counter[str], zero: Sequence[str] = ()
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, told, labels=[label])
    for each in sorted({*zero, *counts}):
        family.add_metric([each], counts[each])
    return family
