"""The only file that knows kopf: it watches, and what it sees goes into the store and onto the queue.

kopf keeps the watches alive: lists, bookmarks, silence, 410, lines that drop. It keeps no state on objects,
because there are only event handlers. Every handler is the same sentence: an object was seen, or is gone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import kopf

from postroom_operator.cluster import Manifest
from postroom_operator.names import OURS

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

Seen = Callable[[Manifest], None]


class Forgetful(kopf.DiffBaseStorage):
    """No state is kept on objects, and none is computed: a copy of each object at each event, otherwise."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        """Nothing of an object is to be compared."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Nothing was stored."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing is stored."""


class Watches:
    """What is watched, and who is told."""

    def __init__(self, access: Any, namespaces: Sequence[str], *, keda: bool) -> None:
        """`access` is an adapters.access.Access; without namespaces all are watched."""
        self._access = access
        self._namespaces = namespaces
        made = (*MADE, *(KEDA if keda else ()))
        self._selected = made
        self._kinds = (*OWN, *made, *(() if namespaces else (NAMESPACES,)))

    async def run(self, seen: Seen, gone: Seen) -> None:
        """Watch until SIGTERM or SIGINT."""
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)

        async def watch(event: Any, **_: Any) -> None:
            (gone if event["type"] == "DELETED" else seen)(event["object"])

        for group, version, plural in self._kinds:
            kopf.on.event(group, version, plural, registry=registry)(watch)
        await kopf.operator(
            registry=registry,
            settings=self._settings(),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
        )

    def _settings(self) -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        settings.persistence.diffbase_storage = Forgetful()
        settings.scanning.disabled = bool(self._namespaces)
        settings.watching.server_timeout = 300
        settings.watching.client_timeout = 310
        for group, version, plural in self._selected:
            settings.watching.label_selectors[group, version, plural] = OURS
        return settings

    def _login(self, **_: Any) -> kopf.ConnectionInfo:
        access = self._access
        return kopf.ConnectionInfo(
            server=access.server,
            ca_path=access.authority,
            insecure=not access.verify,
            scheme="Bearer" if access.token() else None,
            token=access.token(),
            certificate_path=access.certificate,
            private_key_path=access.key,
        )
