"""Proof of templates in processes of their own: manifests in, `Proved` out; a hostile one harms only itself.

A few processes answer one question at a time. One that dies over a question, or does not answer in time, is
replaced, and the question's template gets the problem; but one that was killed is asked once more. What was
proved is kept by its content, so that the same template with the same layout costs nothing again. Whoever
waits for a question that takes longer than a moment is let go (None) and told later, so that a slow proof
holds up no neighbour. What somebody waits for is proved before what is only proved again; each namespace has
its turn.

Whose question is proved next: those that somebody waits for first, and of them each namespace in its turn.

A namespace that asks a hundred questions at once, each as slow as a proof may be, is not before one that asks
a single one a moment later: the first of each goes before the second of any (start-time fair queueing).

What the prover and its processes have in common: the limits of a proof, and the form of an answer.

A process of its own proves; the operator reads what it says and knows nothing of how a letter is rendered.
"""

import asyncio
import contextlib
import json
import math
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count
from typing import Any, Self

from pydantic_core import from_json as read_json

from postroom.framing import LENGTH, encode_frame
from postroom.letter.bundle import compiled_from_json
from postroom.letter.problems import Code, Problem, Severity
from postroom_operator.models import Manifest, SampleSizes, ValidationResult, intern

TIMEOUT_SECONDS = 30.0
"""Wall time of one proof; its CPU time ends first unless the machine is overloaded."""
START_SECONDS = 60.0
SLOW_SECONDS = 1.0
"""After so long in work a question is slow."""
RETRY_SECONDS = 600.0
"""What was given up by the wall clock, or killed, is tried again after that: the machine may be too small."""
IDLE_SECONDS = 60.0
"""A process that has had no question for so long ends, but for the first: an edit must find one at work."""
ValidatedObject = tuple[str, str, str]
"""Whose proof it is: kind, namespace, name."""


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
    """Proves templates and layouts; use as an async context manager."""

    def __init__(self, processes: int, late: Callable[[ValidatedObject], None]) -> None:
        """`late` is told whose question was answered after its asker had been let go."""
        self._processes = [_ValidatorProcess(rests=number > 0) for number in range(processes)]
        self._idle: asyncio.PriorityQueue[int] = asyncio.PriorityQueue()
        """The lowest number first, so that the others get to rest."""
        for number in range(processes):
            self._idle.put_nowait(number)
        self._queue = FairQueue()
        self._late = late
        self._cache: dict[ValidatedObject, _CachedResult] = {}
        self._jobs: dict[bytes, _ValidationJob] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Start the processes, so that the first questions find them at work."""
        self._tasks = [asyncio.create_task(self._begin()) for _ in self._processes]
        self._tasks.append(asyncio.create_task(self._hand_out()))
        return self

    async def __aexit__(self, *exception: object) -> None:
        """End the processes."""
        tasks = [*self._tasks, *(job.task for job in self._jobs.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(process.close() for process in self._processes))

    async def validate(
        self, template: Manifest | None, layout: Manifest | None, *, first: bool = False
    ) -> ValidationResult | None:
        """What came of the proof, or None while it is slow. Without a template the layout is proved alone.

        `first`: before the questions that were not asked so.
        """
        owner, question, digest = build_request(template, layout)
        kept = self._cache.get(owner)
        if kept and kept.digest == digest and asyncio.get_running_loop().time() < kept.until:
            return kept.result
        job = self._jobs.get(digest) or self._start(owner, question, digest, first)
        slow = asyncio.ensure_future(job.slow.wait())
        try:
            await asyncio.wait({job.task, slow}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            slow.cancel()
        return job.task.result() if job.task.done() else None

    def forget(self, owner: ValidatedObject) -> None:
        """Drop what is kept of an object that is gone."""
        self._cache.pop(owner, None)

    async def _begin(self) -> None:
        number = await self._idle.get()
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                await self._processes[number].begin()  # what is in its way, the first question will say
        finally:
            self._give_back(number)

    def _give_back(self, number: int) -> None:
        self._processes[number].idle()
        self._idle.put_nowait(number)

    async def _hand_out(self) -> None:
        """Give each process that is idle to whose turn it is."""
        while True:
            turn = await self._queue.next()
            turn.set_result(await self._idle.get())

    def _start(self, owner: ValidatedObject, question: bytes, digest: bytes, first: bool) -> _ValidationJob:
        turn = self._queue.enqueue(owner[1], first=first)
        job = self._jobs[digest] = _ValidationJob(
            asyncio.create_task(self._answer(owner, question, digest, turn))
        )
        return job

    async def _answer(
        self, owner: ValidatedObject, question: bytes, digest: bytes, turn: "asyncio.Future[int]"
    ) -> ValidationResult:
        number = await turn
        process, job = self._processes[number], self._jobs[digest]
        try:
            await process.begin()
            timer = asyncio.get_running_loop().call_later(SLOW_SECONDS, job.slow.set)
            proved, lasting = await process.ask(question) or await process.retry(question)
            timer.cancel()
        finally:
            self._give_back(number)
            del self._jobs[digest]
        until = math.inf if lasting else asyncio.get_running_loop().time() + RETRY_SECONDS
        self._cache[owner] = _CachedResult(digest, proved, until)
        if job.slow.is_set():
            self._late(owner)
        return proved


class _ValidatorProcess:
    """One process of `proving`; started at its first question, and again after it died or was let go."""

    def __init__(self, *, rests: bool) -> None:
        """`rests`: whether it ends when nobody asks it anything for a while."""
        self._rests = rests
        self._process: asyncio.subprocess.Process | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None

    def idle(self) -> None:
        """Say that it has nothing to do."""
        if self._rests:
            self._timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._end)

    def _end(self) -> None:
        # taken away at once: a question that comes before it is dead must begin another
        process, self._process = self._process, None
        self._ending = asyncio.create_task(_kill(process))

    async def begin(self) -> None:
        """Start it, unless it runs."""
        if self._timer:
            self._timer.cancel()
        if self._process is not None and self._process.returncode is None:
            return
        await self.close()
        command = (sys.executable, "-m", "postroom_operator.validator_process")
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**24,
            start_new_session=True,  # Ctrl-C is the operator's
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                assert self._process.stdout is not None
                await _read_frame(self._process.stdout)
        except BaseException:
            await self.close()
            raise

    async def retry(self, question: bytes) -> tuple[ValidationResult, bool]:
        """As `ask`, of a new process; killed as well, it is the question's fault as far as we know."""
        await self.begin()
        return await self.ask(question) or (_killed_result(), False)

    async def ask(self, question: bytes) -> tuple[ValidationResult, bool] | None:
        """The answer, and whether the same question would be answered so again.

        None where the process was killed, perhaps for what others take: by the kernel, where memory is short.
        """
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                process.stdin.write(encode_frame(question))
                await process.stdin.drain()
                return read_result(await _read_frame(process.stdout)), True
        except TimeoutError:
            await self.close()
            return _timed_out_result(f"took longer than {TIMEOUT_SECONDS:.0f} s"), False
        except (OSError, asyncio.IncompleteReadError):
            status = await process.wait()
            await self.close()
            return (_died_result(status), True) if status != -signal.SIGKILL else None
        except asyncio.CancelledError:
            await self.close()
            raise

    async def close(self) -> None:
        """End the process."""
        if self._timer:
            self._timer.cancel()
        process, self._process = self._process, None
        await _kill(process)


async def _read_frame(stream: asyncio.StreamReader) -> bytes:
    """The next answer; raises IncompleteReadError where the process has ended."""
    head = await stream.readexactly(LENGTH.size)
    return await stream.readexactly(LENGTH.unpack(head)[0])


async def _kill(process: asyncio.subprocess.Process | None) -> None:
    if process is None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.communicate()  # to the end of its pipes, so that nothing of it stays open


def build_request(template: Manifest | None, layout: Manifest | None) -> tuple[ValidatedObject, bytes, bytes]:
    """Whose proof it is, the question as JSON, and what it is kept by."""
    asked = template or layout
    assert asked is not None
    metadata = asked["metadata"]
    parts = {"template": template and _relevant_part(template), "layout": layout and _relevant_part(layout)}
    question = json.dumps(parts, ensure_ascii=False).encode()
    owner = (asked["kind"], metadata["namespace"], metadata["name"])
    return owner, question, blake2b(question, digest_size=16).digest()


def _relevant_part(manifest: Manifest) -> Mapping[str, Any]:
    """What a proof depends on."""
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
        f"its proof ended the process that ran it (status {status}); it needs more than "
        f"{MEMORY_BYTES // 2**20} MiB of memory, or crashes. Make the template smaller"
    )
    return ValidationResult(problems=(Problem(Code.RENDER_LIMIT, "spec", message),))


def _killed_result() -> ValidationResult:
    message = (
        "its proof was killed twice from outside, as the kernel does where memory is short; it comes again "
        f"in {RETRY_SECONDS / 60:.0f} minutes. Make the template smaller, or give the operator more memory"
    )
    return ValidationResult(problems=(Problem(Code.RENDER_LIMIT, "spec", message),))


def _timed_out_result(why: str) -> ValidationResult:
    message = f"its proof {why}; take out loops inside of loops, or some of the samples"
    return ValidationResult(problems=(Problem(Code.VALIDATION_TIMED_OUT, "spec", message),))


_Entry = tuple[bool, int, int, "asyncio.Future[int]"]
"""Whether others go before it, its round, its place in it, and the process that it gets."""


class FairQueue:
    """The questions that wait for a process."""

    def __init__(self) -> None:
        self._waiting: asyncio.PriorityQueue[_Entry] = asyncio.PriorityQueue()
        self._positions = count()
        self._round = {False: 0, True: 0}
        """Of the turn that was given last, by whether others go first."""
        self._last: dict[tuple[bool, str], int] = {}
        """The round in which a namespace's newest question stands."""

    def enqueue(self, namespace: str, *, first: bool) -> "asyncio.Future[int]":
        """Stand in line; the future becomes the number of a process."""
        turn = asyncio.get_running_loop().create_future()
        whose = (not first, namespace)
        mine = max(self._round[not first], self._last.get(whose, -1) + 1)
        self._last[whose] = mine
        self._waiting.put_nowait((not first, mine, next(self._positions), turn))
        return turn

    async def next(self) -> "asyncio.Future[int]":
        """Whose turn it is, once there is somebody."""
        later, mine, _, turn = await self._waiting.get()
        self._round[later] = mine
        if self._waiting.empty():
            self._last.clear()  # nobody waits whom anybody could come before
        return turn


MEMORY_BYTES = 512 * 1024 * 1024
"""Address space; the process takes about 150 MB of it before its first proof."""
CPU_SECONDS = 10
"""Of one proof. The limits on each rendering (`letter.language.bounds`) come long before it."""


def result_to_json(proved: ValidationResult) -> dict[str, Any]:
    """Plain JSON values."""
    return {
        "compiled": proved.compiled.to_json() if proved.compiled else None,
        "problems": [_problem_to_json(problem) for problem in proved.problems],
        "warnings": [_problem_to_json(problem) for problem in proved.warnings],
        "samples": [[each.name, each.locale, each.html_bytes, each.text_bytes] for each in proved.samples],
    }


def read_result(text: bytes) -> ValidationResult:
    """Read what `to_json` wrote."""
    value = read_json(text, cache_strings="all")
    return ValidationResult(
        intern(compiled_from_json(value["compiled"])) if value["compiled"] else None,
        tuple(_read_problem(each) for each in value["problems"]),
        tuple(_read_problem(each) for each in value["warnings"]),
        tuple(SampleSizes(*each) for each in value["samples"]),
    )


def _problem_to_json(problem: Problem) -> list[Any]:
    return [problem.code.value, problem.field, problem.message, problem.line, problem.severity.value]


def _read_problem(value: list[Any]) -> Problem:
    code, field, message, line, severity = value
    return Problem(Code(code), field, message, line, severity=Severity(severity))
