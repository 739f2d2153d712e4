"""Validation of templates in child processes: manifests → `ValidationResult`s.

A few processes (`validator_process`) validate one template at a time, so that a hostile template harms only
itself.

- A process that dies or exceeds its time is replaced, and the template gets a problem. Where the process was
  killed from outside (the kernel does so when memory is short), the template is tried once more.
- Results are cached by content: the same template with the same layout is not validated again.
- A caller waits at most SLOW_SECONDS of work. Then it gets None, and `late` is called when the result is
  there, so that a slow template does not delay the others of its profile.
- Urgent requests go first; among equals each namespace has its turn (`FairQueue`).
"""

import asyncio
import contextlib
import json
import math
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count
from typing import Any, Self

from pydantic_core import from_json as read_json

from postroom.isolated_process import IsolatedProcess, ProcessDied, StartFailed
from postroom.letter.bundle import compiled_from_json
from postroom.letter.problems import Code, Problem, Severity
from postroom_operator.models import Manifest, SampleSizes, ValidationResult, intern

MEMORY_BYTES = 512 * 1024 * 1024
"""The address space of a process, of which it takes about 150 MB before its first template."""
CPU_SECONDS = 10
"""The CPU time of one validation. The limits of each rendering (`letter.language.bounds`) are far below
it."""
TIMEOUT_SECONDS = 30.0
"""The wall time of one validation; the CPU time ends first unless the machine is overloaded."""
START_SECONDS = 60.0
SLOW_SECONDS = 1.0
"""A caller does not wait longer than this for a validation that has begun."""
RETRY_SECONDS = 600.0
"""A validation that timed out or was killed is repeated after this time: the cause may be the machine."""
IDLE_SECONDS = 60.0
"""An idle process ends after this time. The first process stays, so that an edit finds it ready."""
ValidatedObject = tuple[str, str, str]
"""The object that a result is about: kind, namespace, name."""


@dataclass(slots=True)
class _ValidationJob:
    task: "asyncio.Task[ValidationResult]"
    slow: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class _CachedResult:
    digest: bytes
    result: ValidationResult
    until: float


class Validator:
    """Validates templates and layouts; use it as an async context manager. Implements
    observe.ValidationService.
    """

    def __init__(self, processes: int, late: Callable[[ValidatedObject], None]) -> None:
        """`late` is called for each object whose result came after its caller had stopped waiting."""
        self._processes = [_ValidatorProcess(ends_when_idle=number > 0) for number in range(processes)]
        self._idle: asyncio.PriorityQueue[int] = asyncio.PriorityQueue()
        """The idle processes, the lowest number first, so that the others can end."""
        for number in range(processes):
            self._idle.put_nowait(number)
        self._queue = FairQueue()
        self._late = late
        self._cache: dict[ValidatedObject, _CachedResult] = {}
        self._jobs: dict[bytes, _ValidationJob] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Start the processes, so that the first requests find them ready."""
        self._tasks = [asyncio.create_task(self._start_idle()) for _ in self._processes]
        self._tasks.append(asyncio.create_task(self._assign_processes()))
        return self

    async def __aexit__(self, *exception: object) -> None:
        """End the processes."""
        tasks = [*self._tasks, *(job.task for job in self._jobs.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(process.close() for process in self._processes))

    async def validate(
        self, template: Manifest | None, layout: Manifest | None, *, urgent: bool = False
    ) -> ValidationResult | None:
        """The result, or None while the validation is slow. Without a template the layout alone is validated.

        `urgent`: before the requests that are not urgent.
        """
        validated, request, digest = build_request(template, layout)
        cached = self._cache.get(validated)
        if cached and cached.digest == digest and asyncio.get_running_loop().time() < cached.until:
            return cached.result
        job = self._jobs.get(digest) or self._start_job(validated, request, digest, urgent)
        slow = asyncio.ensure_future(job.slow.wait())
        try:
            await asyncio.wait({job.task, slow}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            slow.cancel()
        return job.task.result() if job.task.done() else None

    def forget(self, validated: ValidatedObject) -> None:
        """Drop the cached result of an object that is gone."""
        self._cache.pop(validated, None)

    async def _start_idle(self) -> None:
        number = await self._idle.get()
        try:
            with contextlib.suppress(StartFailed):  # the first request reports it
                await self._processes[number].start()
        finally:
            self._release(number)

    def _release(self, number: int) -> None:
        self._processes[number].idle()
        self._idle.put_nowait(number)

    async def _assign_processes(self) -> None:
        """Give each idle process to the next request."""
        while True:
            request = await self._queue.next()
            request.set_result(await self._idle.get())

    def _start_job(
        self, validated: ValidatedObject, request: bytes, digest: bytes, urgent: bool
    ) -> _ValidationJob:
        process = self._queue.enqueue(validated[1], urgent=urgent)
        task = asyncio.create_task(self._run_job(validated, request, digest, process))
        job = self._jobs[digest] = _ValidationJob(task)
        return job

    async def _run_job(
        self, validated: ValidatedObject, request: bytes, digest: bytes, assigned: "asyncio.Future[int]"
    ) -> ValidationResult:
        number = await assigned
        process, job = self._processes[number], self._jobs[digest]
        try:
            await process.start()
            timer = asyncio.get_running_loop().call_later(SLOW_SECONDS, job.slow.set)
            result, lasting = await process.validate(request)
            timer.cancel()
        finally:
            self._release(number)
            del self._jobs[digest]
        until = math.inf if lasting else asyncio.get_running_loop().time() + RETRY_SECONDS
        self._cache[validated] = _CachedResult(digest, result, until)
        if job.slow.is_set():
            self._late(validated)
        return result


class _ValidatorProcess:
    """A child process that is started at its first request, and again after it died or was idle."""

    def __init__(self, *, ends_when_idle: bool) -> None:
        self._ends_when_idle = ends_when_idle
        self._process = IsolatedProcess("postroom_operator.validator_process", start_seconds=START_SECONDS)
        self._timer: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None

    def idle(self) -> None:
        """Note that it has no request."""
        if self._ends_when_idle:
            self._timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._end)

    def _end(self) -> None:
        self._ending = self._process.stop()

    async def start(self) -> None:
        """Start the process unless it runs; raises StartFailed."""
        if self._timer:
            self._timer.cancel()
        await self._process.start()

    async def validate(self, request: bytes) -> tuple[ValidationResult, bool]:
        """The result of a request, and whether the same request would have the same result later.

        A process that was killed from outside is replaced, and the request is repeated once.
        """
        for _ in range(2):
            await self.start()
            try:
                answer = await self._process.request(request, TIMEOUT_SECONDS)
            except TimeoutError:
                return _timed_out_result(f"took longer than {TIMEOUT_SECONDS:.0f} s"), False
            except ProcessDied as died:
                if died.status != -signal.SIGKILL:
                    return _died_result(died.status), True
            else:
                return read_result(answer), True
        return _killed_result(), False

    async def close(self) -> None:
        """End the process."""
        if self._timer:
            self._timer.cancel()
        await self._process.close()
        if self._ending:
            await self._ending


def build_request(template: Manifest | None, layout: Manifest | None) -> tuple[ValidatedObject, bytes, bytes]:
    """The object that is validated, the request as JSON, and the digest that its result is cached by."""
    subject = template or layout
    assert subject is not None
    metadata = subject["metadata"]
    parts = {
        "template": template and _relevant_part(template),
        "layout": layout and _relevant_part(layout),
    }
    request = json.dumps(parts, ensure_ascii=False).encode()
    validated = (subject["kind"], metadata["namespace"], metadata["name"])
    return validated, request, blake2b(request, digest_size=16).digest()


def _relevant_part(manifest: Manifest) -> Mapping[str, Any]:
    """The part of a manifest that its validation depends on."""
    metadata = manifest["metadata"]
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
        "spec": manifest.get("spec"),
    }


def _died_result(status: int) -> ValidationResult:
    if status == -signal.SIGXCPU:
        return _timed_out_result(f"took more than {CPU_SECONDS} s of CPU time")
    message = (
        f"its validation ended the process that ran it (status {status}): it needs more than "
        f"{MEMORY_BYTES // 2**20} MiB of memory, or the renderer crashes; make the template smaller"
    )
    return ValidationResult(problems=(Problem(Code.RENDER_LIMIT, "spec", message),))


def _killed_result() -> ValidationResult:
    message = (
        "its validation was killed twice from outside, as the kernel does when memory is short; it is "
        f"repeated in {RETRY_SECONDS / 60:.0f} minutes. Make the template smaller, or give the operator "
        "more memory"
    )
    return ValidationResult(problems=(Problem(Code.RENDER_LIMIT, "spec", message),))


def _timed_out_result(cause: str) -> ValidationResult:
    message = f"its validation {cause}; remove nested loops or some of the samples"
    return ValidationResult(problems=(Problem(Code.VALIDATION_TIMED_OUT, "spec", message),))


# --- order -----------------------------------------------------------------------------------------

_Entry = tuple[bool, int, int, "asyncio.Future[int]"]
"""Whether the request is not urgent, its round, its position in the round, and the future for a process."""


class FairQueue:
    """The requests that wait for a process (start-time fair queueing).

    Urgent requests go first. Among equals the first request of each namespace goes before the second of any,
    so that a namespace with a hundred slow templates does not delay a namespace with a single one.
    """

    def __init__(self) -> None:
        self._waiting: asyncio.PriorityQueue[_Entry] = asyncio.PriorityQueue()
        self._positions = count()
        self._round = {False: 0, True: 0}
        """The round of the last request that was served, for urgent requests (False) and others (True)."""
        self._last: dict[tuple[bool, str], int] = {}
        """The round of each namespace's newest request."""

    def enqueue(self, namespace: str, *, urgent: bool) -> "asyncio.Future[int]":
        """Add a request; the future becomes the number of a process."""
        assigned = asyncio.get_running_loop().create_future()
        line = (not urgent, namespace)
        own_round = max(self._round[not urgent], self._last.get(line, -1) + 1)
        self._last[line] = own_round
        self._waiting.put_nowait((not urgent, own_round, next(self._positions), assigned))
        return assigned

    async def next(self) -> "asyncio.Future[int]":
        """Remove and return the next request, once there is one."""
        not_urgent, current, _, assigned = await self._waiting.get()
        self._round[not_urgent] = current
        if self._waiting.empty():
            self._last.clear()  # without waiting requests there is no order to keep
        return assigned


# --- results as JSON: the answers of validator_process -----------------------------------------------


def result_to_json(result: ValidationResult) -> dict[str, Any]:
    """A result as plain JSON values."""
    return {
        "compiled": result.compiled.to_json() if result.compiled else None,
        "problems": [_problem_to_json(problem) for problem in result.problems],
        "warnings": [_problem_to_json(problem) for problem in result.warnings],
        "samples": [
            [sample.name, sample.locale, sample.html_bytes, sample.text_bytes] for sample in result.samples
        ],
    }


def read_result(text: bytes) -> ValidationResult:
    """Parse what `result_to_json` wrote."""
    value = read_json(text, cache_strings="all")
    return ValidationResult(
        intern(compiled_from_json(value["compiled"])) if value["compiled"] else None,
        tuple(_read_problem(problem) for problem in value["problems"]),
        tuple(_read_problem(problem) for problem in value["warnings"]),
        tuple(SampleSizes(*sample) for sample in value["samples"]),
    )


def _problem_to_json(problem: Problem) -> list[Any]:
    return [problem.code.value, problem.field, problem.message, problem.line, problem.severity.value]


def _read_problem(value: list[Any]) -> Problem:
    code, field_, message, line, severity = value
    return Problem(Code(code), field_, message, line, severity=Severity(severity))
