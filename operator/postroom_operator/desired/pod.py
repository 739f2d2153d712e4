"""The parts that all pods of the operator's workloads share.

A pod passes the restricted Pod Security Standard, has no API token, writes only to its own /tmp, and gets no
environment from neighbouring Services (POSTROOM_SANDBOX_PORT=tcp://… would be read as a setting).

The sandbox and the bounce server, of which a namespace has one for all profiles that use it, also share their
metadata, their ports and probes, and their Service.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from postroom.letter.profile import SmtpProfile
from postroom_operator import names
from postroom_operator.desired.inputs import OperatorDefaults, owner_reference
from postroom_operator.models import Manifest

USER = 65532
"""The user of the image, repeated so that the kubelet can verify that it is not root."""
SECRET_MODE = 0o440
"""Secrets are readable by the pod's own group."""
TMP = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 - a volume of the pod's own
TMP_SIZE = "64Mi"

Fields = dict[str, Any]


def pod_spec(defaults: OperatorDefaults) -> Fields:
    """The security context and pull secrets of a pod; the caller adds containers and volumes."""
    spec: Fields = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if defaults.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in defaults.pull_secrets]
    return spec


def container(name: str, args: list[str], env: list[Fields], defaults: OperatorDefaults) -> Fields:
    """A container of the operator's image without privileges."""
    return {
        "name": name,
        "image": defaults.image,
        "imagePullPolicy": defaults.pull_policy,
        "args": args,
        "env": env,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def variable(name: str, value: str) -> Fields:
    """A setting as an environment variable."""
    return {"name": name, "value": value}


def from_pod(name: str, path: str) -> Fields:
    """A setting whose value the kubelet takes from a field of the pod."""
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def mount(volume: str, path: str) -> Fields:
    """A read-only volume mount; only `TMP` is writable."""
    return {"name": volume, "mountPath": path, "readOnly": True}


def secret_volume(volume: str, name: str) -> Fields:
    """A Secret as a volume. The Secret may be created later: the program that needs it reports that and
    waits.
    """
    return {"name": volume, "secret": {"secretName": name, "optional": True, "defaultMode": SECRET_MODE}}


def tmp_volume() -> Fields:
    """The writable volume at /tmp."""
    return {"name": "tmp", "emptyDir": {"sizeLimit": TMP_SIZE}}


def probe(path: str, port: int, *, period: int, failures: int) -> Fields:
    """An HTTP probe; `period` is in seconds."""
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    }


ProfileWithUid = tuple[SmtpProfile, str]
"""A profile with its uid, for an owner reference."""


def shared_metadata(name: str, component: str, namespace: str, owners: Iterable[ProfileWithUid]) -> Fields:
    """The metadata of all objects of a shared server. It is deleted with the last of its owners."""
    references = [owner_reference(profile, uid, controller=False) for profile, uid in owners]
    return {
        "name": name,
        "namespace": namespace,
        "labels": names.labels(component),
        "ownerReferences": sorted(references, key=lambda reference: str(reference["uid"])),
    }


def mail_server(smtp: int, http: int, resources: Fields) -> Fields:
    """The ports, resources and probes of a mail server's container."""
    return {
        "ports": [
            {"name": name, "containerPort": port, "protocol": "TCP"}
            for name, port in (("smtp", smtp), ("http", http))
        ],
        "resources": resources,
        "startupProbe": probe("/healthz", http, period=2, failures=30),
        "livenessProbe": probe("/healthz", http, period=10, failures=3),
        "readinessProbe": probe("/readyz", http, period=5, failures=2),
    }


def service(metadata: Fields, ports: Mapping[str, int]) -> Manifest:
    """The Service of a shared server; `ports` by the name of the container's port."""
    open_ports = [
        {"name": name, "port": port, "targetPort": name, "protocol": "TCP"} for name, port in ports.items()
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        # a Service of type ExternalName could send a sandbox's letters to a relay outside
        "spec": {
            "type": "ClusterIP",
            "selector": names.selector(metadata["labels"]),
            "ports": open_ports,
        },
    }
