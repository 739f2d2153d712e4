"""`postroom worker`: one profile's letters, from its topic to its relay, until SIGTERM.

In: settings from the environment. Out: exit status 0 after an orderly drain, 2 with one clear line when it
cannot start, 1 when a part fails (its platform starts it again; nothing is lost by that). In a cluster it
waits for what is not there yet, and ends with 0 when its connections Secret has changed.
"""

import asyncio

import structlog

from postroom.delivery.programs.job import Job, announce, read_job
from postroom.delivery.programs.opening import Means, Waiting, open_local
from postroom.delivery.programs.secrets import Secrets
from postroom.delivery.programs.status import Board, status_pages
from postroom.delivery.programs.worker import Worker, assemble
from postroom.delivery.settings import WorkerSettings
from postroom.http.server import web_server
from postroom.startup import listen, run_program, stop_signal

log = structlog.get_logger("postroom.worker")


def main() -> None:
    """Run the worker; the process ends when it does."""
    run_program("worker", WorkerSettings, work)


async def work(settings: WorkerSettings) -> None:
    """Show the pages, open what is needed, serve until a signal or a failure, drain."""
    stopping = stop_signal()
    job = read_job(settings)
    announce(job)
    secrets = Secrets(job)
    waiting = Waiting(job, secrets)
    board = Board(waiting)
    with listen(settings.http, "POSTROOM_HTTP") as listening:
        server = web_server(status_pages(board), settings.http)
        serving = asyncio.create_task(server.serve([listening]))
        try:
            if means := await _open(job, waiting, stopping):
                worker = Worker(await assemble(job, secrets, means))
                board.shown = worker.watch
                await worker.run(stopping)
                await means.ledger.close(in_order=not worker.left_untried)
        finally:
            server.should_exit = True
            await serving
    log.info("worker closed")


async def _open(job: Job, waiting: Waiting, stopping: asyncio.Event) -> Means | None:
    """What the worker works with; None when it was told to end before that was there."""
    settings = job.settings
    if settings.connections is None:
        assert settings.bootstrap_servers  # a rule of the settings
        assert settings.ledger
        return await open_local(job, settings.bootstrap_servers, settings.ledger)
    opening = asyncio.create_task(waiting.open())
    told = asyncio.create_task(stopping.wait())
    await asyncio.wait({opening, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if opening.done():
        return opening.result()
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    return None
