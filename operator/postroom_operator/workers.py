"""The state of the workers: /statusz of each pod, polled every few seconds.

Input: pods. Output: `WorkerReport`s. A profile whose workers change to new templates is polled every second
for a while. A tenant may run a pod with a worker's labels, so that polling is bounded: a few requests at a
time, two seconds and a maximum size each, no redirects, no decompression. A pod that does not answer, or
answers anything else, has no report.
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
POLL_SECONDS = 5.0
FAST_SECONDS = 1.0
FAST_FOR_SECONDS = 60.0
UNRESPONSIVE_SECONDS = 60.0
"""While no worker of a profile answers, the last reports are used for this long."""
MAX_CONCURRENT = 16
TIMEOUT = aiohttp.ClientTimeout(total=2.0)
MAX_PAGE_BYTES = 512 * 1024
MAX_LAG = 2**53
"""A larger lag would not fit into a status, and the whole status would be rejected."""
Group = tuple[str, str]
"""The workers of one profile: the namespace, and the profile as a label's value."""


@dataclass(frozen=True, slots=True)
class WorkerPoll:
    """The result of polling a profile's workers."""

    reports: Mapping[str, WorkerReport]
    """By the name of the pod."""
    answered_at: float
    """The time of the last answer, or of the first poll."""
    unresponsive: bool = False
    """Whether that is longer ago than UNRESPONSIVE_SECONDS."""


class WorkerPoller:
    """Polls all workers; implements context.WorkerReports."""

    def __init__(self, pods: Callable[[], Iterable[Manifest]], changed: Callable[[Group], None]) -> None:
        """`changed` is called when the reports of a group change in more than their numbers."""
        self._pods = pods
        self._changed = changed
        self._polls: dict[Group, WorkerPoll] = {}
        self._fast_until: dict[Group, float] = {}
        self._polled_at: dict[Group, float] = {}

    def reports(self, group: Group) -> tuple[WorkerReport, ...]:
        """The last reports of a profile's workers, sorted by pod."""
        poll = self._polls.get(group)
        return tuple(report for _, report in sorted(poll.reports.items())) if poll else ()

    def unresponsive(self, group: Group) -> bool:
        """Whether a profile's workers were polled for a minute and none answered."""
        poll = self._polls.get(group)
        return poll is not None and poll.unresponsive

    def poll_faster(self, group: Group) -> None:
        """Poll these workers every second for a minute, because they are about to change."""
        self._fast_until[group] = asyncio.get_running_loop().time() + FAST_FOR_SECONDS

    async def run(self) -> None:
        """Poll until cancelled."""
        gate = asyncio.Semaphore(MAX_CONCURRENT)
        async with aiohttp.ClientSession(timeout=TIMEOUT, auto_decompress=False) as session:
            while True:
                groups = self._due(asyncio.get_running_loop().time())
                await asyncio.gather(
                    *(self._poll_group(session, gate, group, pods) for group, pods in groups)
                )
                await asyncio.sleep(FAST_SECONDS)

    def _due(self, now: float) -> Iterator[tuple[Group, list[Manifest]]]:
        """The groups to poll now, with their pods; groups without pods are forgotten."""
        groups: defaultdict[Group, list[Manifest]] = defaultdict(list)
        for pod in self._pods():
            labels = pod["metadata"].get("labels") or {}
            if labels.get(COMPONENT) == "worker" and PROFILE in labels:
                groups[pod["metadata"]["namespace"], labels[PROFILE]].append(pod)
        for known in (self._polls, self._fast_until, self._polled_at):
            for group in [group for group in known if group not in groups]:
                del known[group]
        for group, pods in groups.items():
            interval = FAST_SECONDS if self._fast_until.get(group, 0.0) > now else POLL_SECONDS
            if now - self._polled_at.get(group, 0.0) >= interval * 0.9:
                self._polled_at[group] = now
                yield group, pods

    async def _poll_group(
        self, session: aiohttp.ClientSession, gate: asyncio.Semaphore, group: Group, pods: list[Manifest]
    ) -> None:
        async with asyncio.TaskGroup() as tasks:
            polls = [tasks.create_task(_poll(session, gate, pod)) for pod in pods]
        reports = {report.pod: report for poll in polls if (report := poll.result())}
        now = asyncio.get_running_loop().time()
        before = self._polls.get(group, WorkerPoll({}, now))
        answered_at = now if reports else before.answered_at
        after = WorkerPoll(reports, answered_at, now - answered_at >= UNRESPONSIVE_SECONDS)
        self._polls[group] = after
        if after.unresponsive != before.unresponsive or _stable_part(reports) != _stable_part(before.reports):
            self._changed(group)


def _stable_part(reports: Mapping[str, WorkerReport]) -> dict[str, WorkerReport]:
    """Reports without the numbers that change all the time; whether a lag is known is kept."""
    return {
        name: replace(report, has_partitions=False, lag=None if report.lag is None else 0)
        for name, report in reports.items()
    }


async def _poll(
    session: aiohttp.ClientSession, gate: asyncio.Semaphore, pod: Manifest
) -> WorkerReport | None:
    """The report of a pod, or None where it gives none."""
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
    """The whole page, which arrives in pieces; of a page that is too long the beginning."""
    text = b""
    while piece := await content.read(MAX_PAGE_BYTES - len(text)):
        text += piece
    return text


def read_report(pod: str, page: dict[str, Any]) -> WorkerReport:
    """Parse a /statusz page.

    Raises TypeError, AttributeError, ValueError or OverflowError for any other content.
    """
    if page.get("pod", pod) != pod:  # the address may belong to another pod by now
        raise ValueError(f"this is the page of pod {page['pod']}")
    conditions = {
        name: WorkerCondition(
            _optional_bool(condition.get("ok")),
            str(condition.get("reason") or ""),
            str(condition.get("message") or ""),
        )
        for name, condition in (page.get("conditions") or {}).items()
    }
    return WorkerReport(
        pod=pod,
        mode=str(page.get("mode") or ""),
        guarded=bool(page.get("guarded")),
        profile_hash=str(page.get("profile_hash") or ""),
        problems=tuple(str(problem) for problem in page.get("problems") or ()),
        conditions=conditions,
        templates={str(name): str(revision) for name, revision in (page.get("templates") or {}).items()},
        lag=_event_count(page.get("lag")),
        suspended=bool(page.get("suspended")),
        has_partitions=bool(page.get("partitions")),
    )


def _optional_bool(value: Any) -> bool | None:
    if not (value is None or isinstance(value, bool)):
        raise ValueError(f"not a boolean or null: {value!r}")
    return value


def _event_count(lag: Any) -> int | None:
    if lag is not None and not 0 <= int(lag) <= MAX_LAG:
        raise ValueError(f"not a number of events: {lag}")
    return None if lag is None else int(lag)
