"""One `postroom up` from start to end: come to life, show or send, end in order.

Input: what the user asked for and a console. Output: the exit code. Ctrl-C and SIGTERM end it in order; a
second one while it ends is answered with patience, since workers settle their letters then.
"""

import asyncio
import signal
from dataclasses import replace

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from postroom.local.commands import up_again
from postroom.local.manifests import Reading
from postroom.local.observe import totals
from postroom.local.once import send_samples
from postroom.local.plan import Wishes
from postroom.local.show import Notes, show
from postroom.local.up import Run
from postroom.local.view import letters_by_state
from postroom.local.watch import Listener, follow


async def live(wishes: Wishes, console: Console) -> int:
    """Run until asked to end; raises Trouble when it cannot start."""
    notes, stopping = Notes(console), _stopping()
    run = Run(wishes, notes)
    _tell_errors(await run.prove(), console)
    if not await _start(run, console, stopping):
        return 130
    following = asyncio.create_task(follow(run, Listener(notes, notes.finding), stopping))
    try:
        await show(run, console, notes, stopping)
    finally:
        stopping.set()
        await following
        await _end(run, console)
    sums = letters_by_state(totals(run).items()).plain
    console.print(f"Ended. Letters: {sums}. To go on:", highlight=False, soft_wrap=True)
    console.print(f"  {up_again(wishes)}", highlight=False, markup=False, soft_wrap=True)
    return 0


async def once(wishes: Wishes, console: Console) -> int:
    """Send every sample, see it arrive, end; 0 when all came and every manifest passed."""
    stopping = _stopping()
    run = Run(replace(wishes, studio=False), Notes(console))
    reading = await run.prove()
    _tell_errors(reading, console)
    if not any(proof.compiled for proof in reading.verdict.results.values()):
        console.print("No template is live: nothing was started and nothing sent.")
        return 1
    if not await _start(run, console, stopping):
        return 130
    sending = asyncio.create_task(send_samples(run, console))
    ended = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({sending, ended}, return_when=asyncio.FIRST_COMPLETED)
        came = sending.done() and sending.result()
    finally:
        sending.cancel()
        ended.cancel()
        await asyncio.gather(sending, ended, return_exceptions=True)
        await _end(run, console)
    if stopping.is_set():
        return 130
    console.print("They stay in the inbox; to look at them:", highlight=False)
    console.print(f"  {up_again(wishes)}", highlight=False, markup=False, soft_wrap=True)
    return 0 if came and not run.reading.errors else 1


async def _start(run: Run, console: Console, stopping: asyncio.Event) -> bool:
    """Start it; False when it was asked to end before it was ready."""
    starting = asyncio.create_task(run.start())
    ended = asyncio.create_task(stopping.wait())
    with console.status("starting") as status:
        run.stage = _Stage(console, status)
        await asyncio.wait({starting, ended}, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False
    starting.result()
    return True


class _Stage:
    """What is being done now: in a terminal's status line, else a line for what takes long."""

    def __init__(self, console: Console, status: Status) -> None:
        self._console = console
        self._status = status

    def __call__(self, line: str) -> None:
        if self._console.is_terminal:
            self._status.update(escape(line))
        elif "Kafka at" in line or ("broker" in line and not line.startswith(("starting", "waiting"))):
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)


async def _end(run: Run, console: Console) -> None:
    with console.status("ending: letters under way are settled first"):
        await run.stop()


def _tell_errors(reading: Reading, console: Console) -> None:
    for finding in reading.errors:
        console.print(str(finding), style="red", markup=False, highlight=False, soft_wrap=True)


def _stopping() -> asyncio.Event:
    """An event that Ctrl-C and SIGTERM set."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(ending, stopping.set)
    return stopping
