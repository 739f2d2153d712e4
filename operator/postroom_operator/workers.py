"""What workers say of themselves: their /statusz, read from each pod every few seconds.

Pods in, `Report`s out. A profile whose workers change to new templates is asked every second for a while.
Bounded: a few requests at a time, two seconds each, and no more text than a page has; nobody is followed
elsewhere, and nothing is unpacked. A pod that does not answer, or answers anything else, has no report: any
tenant may run one with a worker's labels.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
from pydantic_core import from_json

from postroom_operator.models import Manifest, WorkerCondition, WorkerReport, has_ended
from postroom_operator.names import COMPONENT, PROFILE, WORKER_HTTP_PORT

PORT = WORKER_HTTP_PORT
EVERY_SECONDS = 5.0
FAST_SECONDS = 1.0
FAST_FOR_SECONDS = 60.0
UNRESPONSIVE_SECONDS = 60.0
"""What workers said before stands for so long while none of a profile's answers."""
AT_A_TIME = 16
TIMEOUT = aiohttp.ClientTimeout(total=2.0)
PAGE_BYTES = 512 * 1024
MAX_LAG = 2**53
"""Of a lag; a number that a status cannot hold would keep it from being written."""
Group = tuple[str, str]
"""The workers of one profile: namespace, and the profile as a label's value."""


@dataclass(frozen=True, slots=True)
class WorkerPoll:
    """What came of asking a profile's workers."""

    reports: Mapping[str, WorkerReport]
    """By the name of the pod."""
    at: float
    """When one of them answered last, or they were asked first."""
    unresponsive: bool = False
    """Whether that is long ago."""


class WorkerPoller:
    """The reports of all workers."""

    def __init__(self, pods: Callable[[], Iterable[Manifest]], changed: Callable[[Group], None]) -> None:
        """`changed` is told when workers say something else than before, but for how much waits for whom."""
        self._pods = pods
        self._changed = changed
        self._polls: dict[Group, WorkerPoll] = {}
        self._fast_until: dict[Group, float] = {}
        self._polled_at: dict[Group, float] = {}

    def reports(self, group: Group) -> tuple[WorkerReport, ...]:
        """What a profile's workers said last, by the name of their pod."""
        heard = self._polls.get(group)
        return tuple(report for _, report in sorted(heard.reports.items())) if heard else ()

    def unresponsive(self, group: Group) -> bool:
        """Whether a profile's workers have been asked for long, and none answered."""
        heard = self._polls.get(group)
        return heard is not None and heard.unresponsive

    def poll_faster(self, group: Group) -> None:
        """Ask these every second for a while: they are about to change."""
        self._fast_until[group] = asyncio.get_running_loop().time() + FAST_FOR_SECONDS

    async def run(self) -> None:
        """Ask for ever."""
        gate = asyncio.Semaphore(AT_A_TIME)
        async with aiohttp.ClientSession(timeout=TIMEOUT, auto_decompress=False) as session:
            while True:
                groups = self._due(asyncio.get_running_loop().time())
                await asyncio.gather(*(self._poll_group(session, gate, *each) for each in groups))
                await asyncio.sleep(FAST_SECONDS)

    def _due(self, now: float) -> Iterator[tuple[Group, list[Manifest]]]:
        groups: defaultdict[Group, list[Manifest]] = defaultdict(list)
        for pod in self._pods():
            labels = pod["metadata"].get("labels") or {}
            if labels.get(COMPONENT) == "worker" and PROFILE in labels:
                groups[pod["metadata"]["namespace"], labels[PROFILE]].append(pod)
        for known in (self._polls, self._fast_until, self._polled_at):
            for gone in [group for group in known if group not in groups]:
                del known[gone]
        for group, pods in groups.items():
            pace = FAST_SECONDS if self._fast_until.get(group, 0.0) > now else EVERY_SECONDS
            if now - self._polled_at.get(group, 0.0) >= pace * 0.9:
                self._polled_at[group] = now
                yield group, pods

    async def _poll_group(
        self, session: aiohttp.ClientSession, gate: asyncio.Semaphore, group: Group, pods: list[Manifest]
    ) -> None:
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(_poll(session, gate, pod)) for pod in pods]
        found = {report.pod: report for each in asked if (report := each.result())}
        now = asyncio.get_running_loop().time()
        before = self._polls.get(group, WorkerPoll({}, now))
        at = now if found else before.at
        after = self._polls[group] = WorkerPoll(found, at, now - at >= UNRESPONSIVE_SECONDS)
        if after.unresponsive != before.unresponsive or _stable_part(found) != _stable_part(before.reports):
            self._changed(group)


def _stable_part(reports: Mapping[str, WorkerReport]) -> dict[str, WorkerReport]:
    """Reports without what changes all the time; whether a lag is known does not."""
    return {
        name: replace(report, has_partitions=False, lag=None if report.lag is None else 0)
        for name, report in reports.items()
    }


async def _poll(
    session: aiohttp.ClientSession, gate: asyncio.Semaphore, pod: Manifest
) -> WorkerReport | None:
    address = (pod.get("status") or {}).get("podIP")
    if not address or has_ended(pod):
        return None
    host = f"[{address}]" if ":" in address else address
    try:
        async with gate, session.get(f"http://{host}:{PORT}/statusz", allow_redirects=False) as answer:
            page = from_json(await _text(answer.content)) if answer.status == 200 else None
        return read_report(pod["metadata"]["name"], page) if page is not None else None
    except (aiohttp.ClientError, TimeoutError, ValueError, TypeError, AttributeError, OverflowError):
        return None


async def _text(content: aiohttp.StreamReader) -> bytes:
    """All of a page, which comes in as many pieces as the network likes; of one too long the beginning."""
    text = b""
    while piece := await content.read(PAGE_BYTES - len(text)):
        text += piece
    return text


def read_report(pod: str, page: dict[str, Any]) -> WorkerReport:
    """A /statusz page as a Report; for anything else TypeError, AttributeError, ValueError, OverflowError."""
    if page.get("pod", pod) != pod:  # an address goes to another pod as soon as its own is gone
        raise ValueError(f"the page of pod {page['pod']}")
    answers = {
        name: WorkerCondition(
            _optional_bool(each.get("ok")), str(each.get("reason") or ""), str(each.get("message") or "")
        )
        for name, each in (page.get("conditions") or {}).items()
    }
    return WorkerReport(
        pod=pod,
        mode=str(page.get("mode") or ""),
        guarded=bool(page.get("guarded")),
        profile_hash=str(page.get("profile_hash") or ""),
        problems=tuple(str(each) for each in page.get("problems") or ()),
        conditions=answers,
        templates={str(name): str(revision) for name, revision in (page.get("templates") or {}).items()},
        lag=_event_count(page.get("lag")),
        suspended=bool(page.get("suspended")),
        has_partitions=bool(page.get("partitions")),
    )


def _optional_bool(said: Any) -> bool | None:
    if not (said is None or isinstance(said, bool)):
        raise ValueError(f"neither yes nor no: {said!r}")
    return said


def _event_count(lag: Any) -> int | None:
    if lag is not None and not 0 <= int(lag) <= MAX_LAG:
        raise ValueError(f"no number of events: {lag}")
    return None if lag is None else int(lag)
