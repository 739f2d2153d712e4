"""The only file that knows kopf: it watches, and what it sees goes into the store and onto the queue.

kopf keeps the watches alive: lists, bookmarks, silence, 410, lines that drop. A refusal that lasts and an
error in the stream end all of its watches; they are begun anew then, with a listing. It keeps no state on
objects, because there are only event handlers. Every handler is the same sentence: an object was seen, or is
gone.
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

from postroom_operator.models import Manifest
from postroom_operator.names import MANAGED_SELECTOR

OWN = tuple(("postroom.dev", "v1alpha1", name) for name in ("emailtemplates", "emaillayouts", "smtpprofiles"))
MADE = (
    ("", "v1", "configmaps"),
    ("", "v1", "services"),
    ("", "v1", "pods"),
    ("apps", "v1", "deployments"),
    ("networking.k8s.io", "v1", "networkpolicies"),
    ("policy", "v1", "poddisruptionbudgets"),
)
KEDA = tuple(("keda.sh", "v1alpha1", name) for name in ("scaledobjects", "triggerauthentications"))
NAMESPACES = ("", "v1", "namespaces")

AGAIN_SECONDS = 2.0
END_SECONDS = 1.0
MESSAGE_CHARACTERS = 500
SLACK_SECONDS = 5.0
"""A watch ends by itself, after a bookmark; one that did not is cut off so much later: its line is dead."""

CHUNK = 100
"""Objects of one answer while kopf lists: all at once would be the most memory the operator ever takes."""
NEVER = 1e9
REACTOR = logging.getLogger("kopf._core.reactor.running")
REACTOR.propagate = False  # what it says of its end is said in one line of ours, without a traceback
logging.getLogger("kopf._core.reactor.orchestration").propagate = False  # and once for each watch

ObjectCallback = Callable[[Manifest], None]
log = structlog.get_logger("postroom.operator")


class NoDiffStorage(kopf.DiffBaseStorage):
    """No state is kept on objects, and none is computed: a copy of each object at each event, otherwise."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        """Nothing of an object is to be compared."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Nothing was stored."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing is stored."""


class KopfErrorHandler(logging.Handler):
    """Hears that kopf has given up, which it may say long before it ends."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.failed = asyncio.Event()
        self.message = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Take what was said; in kopf's own thread."""
        self.message = self.message or record.getMessage()[:MESSAGE_CHARACTERS]
        self.failed.set()


class ObjectWatcher:
    """What is watched, and who is told."""

    def __init__(self, credentials: Any, namespaces: Sequence[str], seconds: int, *, keda: bool) -> None:
        """`access` is an adapters.access.Access; without namespaces all are watched; `seconds` is a watch."""
        self._credentials = credentials
        self._namespaces = namespaces
        self._seconds = seconds
        made = (*MADE, *(KEDA if keda else ()))
        self._selected = made
        self._kinds = (*OWN, *made, *(() if namespaces else (NAMESPACES,)))

    async def run(self, seen: ObjectCallback, gone: ObjectCallback) -> None:
        """Watch until cancelled.

        kopf cancels every task of its event loop when it ends, ours too, and takes the signals for itself; so
        that it has a loop of its own, in a thread of its own.
        """
        here = asyncio.get_running_loop()
        stopper: Future[Callable[[], object]] = Future()

        async def hear(event: Any, **_: Any) -> None:
            here.call_soon_threadsafe(gone if event["type"] == "DELETED" else seen, event["object"])

        thread = asyncio.create_task(asyncio.to_thread(asyncio.run, self._watch(hear, stopper)))
        try:
            await asyncio.shield(thread)
        finally:
            (await asyncio.wrap_future(stopper))()
            await thread

    async def _watch(self, hear: Callable[..., Any], stopper: "Future[Callable[[], object]]") -> None:
        """In the thread: watch until the stopper is called, and begin anew whenever kopf gives up."""
        stop, here = asyncio.Event(), asyncio.get_running_loop()
        stopper.set_result(partial(here.call_soon_threadsafe, stop.set))
        while not stop.is_set():
            ear = KopfErrorHandler()
            REACTOR.addHandler(ear)
            work = asyncio.create_task(self._kopf(hear, stop))
            flags = [asyncio.create_task(each.wait()) for each in (stop, ear.failed)]
            await asyncio.wait({work, *flags}, return_when=asyncio.FIRST_COMPLETED)
            await _ended(work)
            for each in flags:
                each.cancel()
            REACTOR.removeHandler(ear)
            if not stop.is_set():
                log.warning("the watches broke off; they begin anew", problem=ear.message)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), AGAIN_SECONDS)

    async def _kopf(self, hear: Callable[..., Any], stop: asyncio.Event) -> None:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        for group, version, plural in self._kinds:
            kopf.on.event(group, version, plural, registry=registry)(hear)
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
        settings.watching.client_timeout = self._seconds + SLACK_SECONDS
        settings.watching.chunk_size = CHUNK
        # the client's timeout is enough; this one cancels kopf's own task in the midst of trying again
        settings.watching.inactivity_timeout = NEVER
        for group, version, plural in self._selected:
            settings.watching.label_selectors[group, version, plural] = MANAGED_SELECTOR
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


async def _ended(work: "asyncio.Task[None]") -> None:
    """Wait for kopf's end. It may miss that it was cancelled, so that it is told again and again."""
    while not (await asyncio.wait({work}, timeout=END_SECONDS))[0]:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
    if not work.cancelled():
        work.exception()  # it was said
