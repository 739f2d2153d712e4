"""The sandbox of a namespace: a mail server that keeps every letter, and its inbox. Pure.

Input: the namespace, its profiles in mode Sandbox, and the operator's defaults. Output: manifests, or none
without such profiles. The sandbox belongs to all of these profiles and is deleted with the last of them.
Letters are stored in the pod: a new pod begins with an empty inbox.
"""

from collections.abc import Iterable

from postroom_operator import names
from postroom_operator.desired.inputs import OperatorDefaults
from postroom_operator.desired.network import SANDBOX_HTTP, SANDBOX_SMTP, sandbox_policy
from postroom_operator.desired.pod import (
    TMP,
    Fields,
    ProfileWithUid,
    container,
    mail_server,
    pod_spec,
    service,
    shared_metadata,
    tmp_volume,
    variable,
)
from postroom_operator.models import Manifest

FOLDER = "/var/lib/postroom"
KEEP_BYTES = 256 * 1024 * 1024
VOLUME_SIZE = "1Gi"
"""Larger than the letters: indexes, and pages that SQLite has not freed yet."""
RESOURCES = {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "384Mi"}}


def sandbox_manifests(
    namespace: str, owners: Iterable[ProfileWithUid], defaults: OperatorDefaults
) -> list[Manifest]:
    """The objects of a namespace's sandbox, in the order in which they are applied."""
    profiles = list(owners)
    if not profiles:
        return []
    metadata = shared_metadata(names.SANDBOX, "sandbox", namespace, profiles)
    ports = {"smtp": SANDBOX_SMTP, "http": SANDBOX_HTTP}
    return [sandbox_policy(metadata), _deployment(metadata, defaults), service(metadata, ports)]


def _deployment(metadata: Fields, defaults: OperatorDefaults) -> Manifest:
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": names.selector(metadata["labels"])},
        "revisionHistoryLimit": 3,
        "strategy": {"type": "Recreate"},
        "template": {
            "metadata": {"labels": metadata["labels"]},
            "spec": {
                **pod_spec(defaults),
                "containers": [_container(metadata["namespace"], defaults)],
                "volumes": [tmp_volume(), {"name": "inbox", "emptyDir": {"sizeLimit": VOLUME_SIZE}}],
            },
        },
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def _container(namespace: str, defaults: OperatorDefaults) -> Fields:
    local = f"{names.SANDBOX}.{namespace}"
    hosts = (names.SANDBOX, local, f"{local}.svc", f"{local}.svc.cluster.local")
    env = [
        variable("POSTROOM_SANDBOX_SMTP", f"0.0.0.0:{SANDBOX_SMTP}"),
        variable("POSTROOM_SANDBOX_HTTP", f"0.0.0.0:{SANDBOX_HTTP}"),
        variable("POSTROOM_SANDBOX_DATABASE", f"{FOLDER}/inbox.sqlite"),
        variable("POSTROOM_SANDBOX_KEEP_BYTES", str(KEEP_BYTES)),
        variable("POSTROOM_SANDBOX_ALLOWED_HOSTS", ",".join(hosts)),
    ]
    return {
        **container("sandbox", ["sandbox"], env, defaults),
        **mail_server(SANDBOX_SMTP, SANDBOX_HTTP, RESOURCES),
        "volumeMounts": [TMP, {"name": "inbox", "mountPath": FOLDER}],
    }
