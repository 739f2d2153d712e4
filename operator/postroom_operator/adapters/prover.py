"""Proof of templates in processes of their own: manifests in, `Proved` out; a hostile one harms only itself.

A few processes answer one question at a time. One that dies over a question, or does not answer in time, is
replaced, and the question's template gets the problem; but one that was killed is asked once more. What was
proved is kept by its content, so that the same template with the same layout costs nothing again. Whoever
waits for a question that takes longer than a moment is let go (None) and told later, so that a slow proof
holds up no neighbour. What somebody waits for is proved before what is only proved again; each namespace has
its turn.
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
from typing import Any, Self

from postroom.framing import LENGTH, encode_frame
from postroom.letter.problems import Code, Problem
from postroom_operator.adapters.answers import CPU_SECONDS, MEMORY_BYTES, read_answer
from postroom_operator.adapters.turns import Turns
from postroom_operator.cluster import Manifest
from postroom_operator.facts import Proved

PATIENCE_SECONDS = 30.0
"""Wall time of one proof; its CPU time ends first unless the machine is overloaded."""
START_SECONDS = 60.0
SLOW_SECONDS = 1.0
"""After so long in work a question is slow."""
AGAIN_SECONDS = 600.0
"""What was given up by the wall clock, or killed, is tried again after that: the machine may be too small."""
REST_SECONDS = 60.0
"""A process that has had no question for so long ends, but for the first: an edit must find one at work."""
Owner = tuple[str, str, str]
"""Whose proof it is: kind, namespace, name."""


@dataclass(slots=True)
class _Job:
    task: "asyncio.Task[Proved]"
    slow: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class _Kept:
    digest: bytes
    proved: Proved
    until: float


class Prover:
    """Proves templates and layouts; use as an async context manager."""

    def __init__(self, processes: int, late: Callable[[Owner], None]) -> None:
        """`late` is told whose question was answered after its asker had been let go."""
        self._processes = [_Process(rests=number > 0) for number in range(processes)]
        self._idle: asyncio.PriorityQueue[int] = asyncio.PriorityQueue()
        """The lowest number first, so that the others get to rest."""
        for number in range(processes):
            self._idle.put_nowait(number)
        self._turns = Turns()
        self._late = late
        self._kept: dict[Owner, _Kept] = {}
        self._jobs: dict[bytes, _Job] = {}
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

    async def prove(
        self, template: Manifest | None, layout: Manifest | None, *, first: bool = False
    ) -> Proved | None:
        """What came of the proof, or None while it is slow. Without a template the layout is proved alone.

        `first`: before the questions that were not asked so.
        """
        owner, question, digest = question_of(template, layout)
        kept = self._kept.get(owner)
        if kept and kept.digest == digest and asyncio.get_running_loop().time() < kept.until:
            return kept.proved
        job = self._jobs.get(digest) or self._start(owner, question, digest, first)
        slow = asyncio.ensure_future(job.slow.wait())
        try:
            await asyncio.wait({job.task, slow}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            slow.cancel()
        return job.task.result() if job.task.done() else None

    def forget(self, owner: Owner) -> None:
        """Drop what is kept of an object that is gone."""
        self._kept.pop(owner, None)

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
            turn = await self._turns.next()
            turn.set_result(await self._idle.get())

    def _start(self, owner: Owner, question: bytes, digest: bytes, first: bool) -> _Job:
        turn = self._turns.ask(owner[1], first=first)
        job = self._jobs[digest] = _Job(asyncio.create_task(self._answer(owner, question, digest, turn)))
        return job

    async def _answer(
        self, owner: Owner, question: bytes, digest: bytes, turn: "asyncio.Future[int]"
    ) -> Proved:
        number = await turn
        process, job = self._processes[number], self._jobs[digest]
        try:
            await process.begin()
            timer = asyncio.get_running_loop().call_later(SLOW_SECONDS, job.slow.set)
            proved, lasting = await process.ask(question) or await process.ask_again(question)
            timer.cancel()
        finally:
            self._give_back(number)
            del self._jobs[digest]
        until = math.inf if lasting else asyncio.get_running_loop().time() + AGAIN_SECONDS
        self._kept[owner] = _Kept(digest, proved, until)
        if job.slow.is_set():
            self._late(owner)
        return proved


class _Process:
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
            self._timer = asyncio.get_running_loop().call_later(REST_SECONDS, self._end)

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
        command = (sys.executable, "-m", "postroom_operator.adapters.proving")
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
                await _next(self._process.stdout)
        except BaseException:
            await self.close()
            raise

    async def ask_again(self, question: bytes) -> tuple[Proved, bool]:
        """As `ask`, of a new process; killed as well, it is the question's fault as far as we know."""
        await self.begin()
        return await self.ask(question) or (_killed(), False)

    async def ask(self, question: bytes) -> tuple[Proved, bool] | None:
        """The answer, and whether the same question would be answered so again.

        None where the process was killed, perhaps for what others take: by the kernel, where memory is short.
        """
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                process.stdin.write(encode_frame(question))
                await process.stdin.drain()
                return read_answer(await _next(process.stdout)), True
        except TimeoutError:
            await self.close()
            return _given_up(f"took longer than {PATIENCE_SECONDS:.0f} s"), False
        except (OSError, asyncio.IncompleteReadError):
            status = await process.wait()
            await self.close()
            return (_died(status), True) if status != -signal.SIGKILL else None
        except asyncio.CancelledError:
            await self.close()
            raise

    async def close(self) -> None:
        """End the process."""
        if self._timer:
            self._timer.cancel()
        process, self._process = self._process, None
        await _kill(process)


async def _next(stream: asyncio.StreamReader) -> bytes:
    """The next answer; raises IncompleteReadError where the process has ended."""
    head = await stream.readexactly(LENGTH.size)
    return await stream.readexactly(LENGTH.unpack(head)[0])


async def _kill(process: asyncio.subprocess.Process | None) -> None:
    if process is None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.communicate()  # to the end of its pipes, so that nothing of it stays open


def question_of(template: Manifest | None, layout: Manifest | None) -> tuple[Owner, bytes, bytes]:
    """Whose proof it is, the question as JSON, and what it is kept by."""
    asked = template or layout
    assert asked is not None
    metadata = asked["metadata"]
    parts = {"template": template and _bare(template), "layout": layout and _bare(layout)}
    question = json.dumps(parts, ensure_ascii=False).encode()
    owner = (asked["kind"], metadata["namespace"], metadata["name"])
    return owner, question, blake2b(question, digest_size=16).digest()


def _bare(manifest: Manifest) -> Mapping[str, Any]:
    """What a proof depends on."""
    metadata = manifest["metadata"]
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
        "spec": manifest.get("spec"),
    }


def _died(status: int) -> Proved:
    if status == -signal.SIGXCPU:
        return _given_up(f"took more than {CPU_SECONDS} s of CPU time")
    message = (
        f"its proof ended the process that ran it (status {status}); it needs more than "
        f"{MEMORY_BYTES // 2**20} MiB of memory, or crashes. Make the template smaller"
    )
    return Proved(problems=(Problem(Code.RENDER_LIMIT, "spec", message),))


def _killed() -> Proved:
    message = (
        "its proof was killed twice from outside, as the kernel does where memory is short; it comes again "
        f"in {AGAIN_SECONDS / 60:.0f} minutes. Make the template smaller, or give the operator more memory"
    )
    return Proved(problems=(Problem(Code.RENDER_LIMIT, "spec", message),))


def _given_up(why: str) -> Proved:
    message = f"its proof {why}; take out loops inside of loops, or some of the samples"
    return Proved(problems=(Problem(Code.VALIDATION_TIMED_OUT, "spec", message),))
