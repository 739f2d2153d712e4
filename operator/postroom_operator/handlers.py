"""The watches: what kopf sees goes into the store and onto the queue. The only module that imports kopf.

kopf keeps the watches alive: it lists, follows bookmarks, and handles silence, 410 and dropped connections. A
rejection that lasts and an error in the stream end all of its watches; `ObjectWatcher` then starts kopf
again, which lists everything again. kopf keeps no state on objects here, because there are only event
handlers, and every handler does the same: it reports that an object was seen or is gone.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

import kopf
import structlog

from postroom_operator.kubernetes import ApiCredentials
from postroom_operator.models import (
    CREATED_KINDS,
    CUSTOM_RESOURCES,
    KEDA_KINDS,
    NAMESPACE,
    PLURALS,
    Manifest,
    ResourceKind,
)
from postroom_operator.names import MANAGED_SELECTOR

RESTART_SECONDS = 2.0
CANCEL_SECONDS = 1.0
MAX_MESSAGE_CHARACTERS = 500
TIMEOUT_MARGIN_SECONDS = 5.0
"""A watch ends by itself after a bookmark. A watch that is still open this much later has a dead
connection."""

PAGE_SIZE = 100
"""Objects in one answer while kopf lists. A single answer with all objects would be the operator's memory
peak."""
NEVER = 1e9
REACTOR = logging.getLogger("kopf._core.reactor.running")
REACTOR.propagate = False  # the restart is logged in one line below, without kopf's traceback
logging.getLogger("kopf._core.reactor.orchestration").propagate = False  # kopf logs it once for each watch

ObjectCallback = Callable[[Manifest], None]
log = structlog.get_logger("postroom.operator")


class NoDiffStorage(kopf.DiffBaseStorage):
    """Keeps no state on objects and computes none, which would copy each object at each event."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        """Return nothing to compare."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Return nothing, because nothing is stored."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Store nothing."""


class KopfErrorHandler(logging.Handler):
    """Notices in kopf's log that it gave up, which may be long before it ends."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.failed = asyncio.Event()
        self.message = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the first message; runs in kopf's thread."""
        self.message = self.message or record.getMessage()[:MAX_MESSAGE_CHARACTERS]
        self.failed.set()


class ObjectWatcher:
    """Watches all kinds of objects that the operator reads."""

    def __init__(
        self, credentials: ApiCredentials, namespaces: Sequence[str], seconds: int, *, keda: bool
    ) -> None:
        """Without namespaces all are watched; `seconds` is the duration of one watch request."""
        self._credentials = credentials
        self._namespaces = namespaces
        self._seconds = seconds
        self._created = (*CREATED_KINDS, *(KEDA_KINDS if keda else ()))
        self._kinds = (*CUSTOM_RESOURCES, *self._created, *(() if namespaces else (NAMESPACE,)))

    async def run(self, seen: ObjectCallback, gone: ObjectCallback) -> None:
        """Watch until cancelled; `seen` and `gone` are called on the caller's event loop.

        kopf runs on an event loop of its own in a thread of its own, because it cancels every task of its
        loop when it ends and installs signal handlers.
        """
        loop = asyncio.get_running_loop()
        stopper: Future[Callable[[], object]] = Future()

        async def on_event(event: Any, **_: Any) -> None:
            loop.call_soon_threadsafe(gone if event["type"] == "DELETED" else seen, event["object"])

        thread = asyncio.create_task(asyncio.to_thread(asyncio.run, self._watch(on_event, stopper)))
        try:
            await asyncio.shield(thread)
        finally:
            (await asyncio.wrap_future(stopper))()
            await thread

    async def _watch(self, on_event: Callable[..., Any], stopper: "Future[Callable[[], object]]") -> None:
        """In the thread: run kopf until the stopper is called, and again whenever it gives up."""
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        stopper.set_result(partial(loop.call_soon_threadsafe, stop.set))
        while not stop.is_set():
            errors = KopfErrorHandler()
            REACTOR.addHandler(errors)
            work = asyncio.create_task(self._run_kopf(on_event, stop))
            waits = [asyncio.create_task(event.wait()) for event in (stop, errors.failed)]
            await asyncio.wait({work, *waits}, return_when=asyncio.FIRST_COMPLETED)
            await _cancel(work)
            for wait in waits:
                wait.cancel()
            REACTOR.removeHandler(errors)
            if not stop.is_set():
                log.warning("watch stream failed; restarting", problem=errors.message)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), RESTART_SECONDS)

    async def _run_kopf(self, on_event: Callable[..., Any], stop: asyncio.Event) -> None:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        for kind in self._kinds:
            kopf.on.event(*_group_version_plural(kind), registry=registry)(on_event)
        await kopf.operator(
            registry=registry,
            settings=self._settings(),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            stop_flag=stop,
        )

    def _settings(self) -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        settings.persistence.diffbase_storage = NoDiffStorage()
        settings.scanning.disabled = bool(self._namespaces)
        settings.watching.server_timeout = self._seconds
        settings.watching.client_timeout = self._seconds + TIMEOUT_MARGIN_SECONDS
        settings.watching.chunk_size = PAGE_SIZE
        # the client's timeout is enough; this one would cancel kopf's task during its retries
        settings.watching.inactivity_timeout = NEVER
        for kind in self._created:
            settings.watching.label_selectors[_group_version_plural(kind)] = MANAGED_SELECTOR
        return settings

    def _login(self, **_: Any) -> kopf.ConnectionInfo:
        credentials = self._credentials
        return kopf.ConnectionInfo(
            server=credentials.server,
            ca_path=credentials.authority,
            insecure=not credentials.verify,
            scheme="Bearer" if credentials.token() else None,
            token=credentials.token(),
            certificate_path=credentials.certificate,
            private_key_path=credentials.key,
        )


def _group_version_plural(kind: ResourceKind) -> tuple[str, str, str]:
    group, _, version = kind.api_version.rpartition("/")
    return group, version, PLURALS[kind]


async def _cancel(work: "asyncio.Task[None]") -> None:
    """End kopf. It may miss a cancellation, so that all tasks of its loop are cancelled again and again."""
    while not (await asyncio.wait({work}, timeout=CANCEL_SECONDS))[0]:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
    if not work.cancelled():
        work.exception()  # the error handler has its message
