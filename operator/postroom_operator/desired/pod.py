"""What every pod of ours has: nothing that it does not need.

It passes the restricted Pod Security Standard, holds no API token, writes to its own /tmp and nowhere
else, and gets no environment from neighbouring Services (POSTROOM_SANDBOX_PORT=tcp://… would be a setting).

What a namespace's own mail servers have in common, the sandbox and the bounce intake.

There is one for all profiles that need it, and it goes with the last of them; it takes mail at one port and
says how it is at another.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from postroom.letter.profile import SmtpProfile
from postroom_operator import names
from postroom_operator.desired.inputs import OperatorDefaults, owner_reference
from postroom_operator.models import Manifest

USER = 65532
"""As the image has it; named so that the kubelet need not trust the image."""
SECRET_MODE = 0o440
"""Secrets are read by the pod's group, which is ours alone."""
TMP = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 - a volume of the pod's own
TMP_SIZE = "64Mi"

Fields = dict[str, Any]


def pod_spec(fixed: OperatorDefaults) -> Fields:
    """The security, the grace and the pull secrets of a pod; containers and volumes are the caller's."""
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
    if fixed.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in fixed.pull_secrets]
    return spec


def container(name: str, args: list[str], env: list[Fields], fixed: OperatorDefaults) -> Fields:
    """A container of our image that may do nothing special."""
    return {
        "name": name,
        "image": fixed.image,
        "imagePullPolicy": fixed.pull_policy,
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
    """A setting that the kubelet fills in from the pod's own fields."""
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def mount(volume: str, path: str) -> Fields:
    """A volume as a container sees it; only `TMP` is written to."""
    return {"name": volume, "mountPath": path, "readOnly": True}


def secret_volume(volume: str, name: str) -> Fields:
    """A Secret as a volume. It may come later: what needs it says so, and waits."""
    return {"name": volume, "secret": {"secretName": name, "optional": True, "defaultMode": SECRET_MODE}}


def tmp_volume() -> Fields:
    """The only place where a container may write."""
    return {"name": "tmp", "emptyDir": {"sizeLimit": TMP_SIZE}}


def probe(path: str, port: int, *, period: int, failures: int) -> Fields:
    """An HTTP probe; `period` in seconds."""
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    }


ProfileWithUid = tuple[SmtpProfile, str]
"""A profile with its uid."""


def shared_metadata(name: str, component: str, namespace: str, owners: Iterable[ProfileWithUid]) -> Fields:
    """Of everything that the server is made of."""
    references = [owner_reference(profile, uid, controller=False) for profile, uid in owners]
    return {
        "name": name,
        "namespace": namespace,
        "labels": names.labels(component),
        "ownerReferences": sorted(references, key=lambda each: str(each["uid"])),
    }


def mail_server(smtp: int, http: int, resources: Fields) -> Fields:
    """The container's ports and resources, and how the kubelet learns whether it is well."""
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
    """The Service; `ports` by the name of the container's port."""
    open_ports = [
        {"name": name, "port": port, "targetPort": name, "protocol": "TCP"} for name, port in ports.items()
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        # of another type it could be a name for a relay outside, where a sandbox's letters would go
        "spec": {
            "type": "ClusterIP",
            "selector": names.selector(metadata["labels"]),
            "ports": open_ports,
        },
    }
