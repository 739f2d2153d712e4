"""What every pod of ours has: nothing that it does not need.

It passes the restricted Pod Security Standard, holds no API token, writes to its own /tmp and nowhere
else, and gets no environment from neighbouring Services (POSTROOM_SANDBOX_PORT=tcp://… would be a setting).
"""

from typing import Any

from postroom_operator.desired.view import Fixed

USER = 65532
"""As the image has it; named so that the kubelet need not trust the image."""
SECRET_MODE = 0o440
"""Secrets are read by the pod's group, which is ours alone."""
TMP = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 - a volume of the pod's own
TMP_SIZE = "64Mi"

Plain = dict[str, Any]


def pod_spec(fixed: Fixed) -> Plain:
    """The security, the grace and the pull secrets of a pod; containers and volumes are the caller's."""
    spec: Plain = {
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


def container(name: str, args: list[str], env: list[Plain], fixed: Fixed) -> Plain:
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


def variable(name: str, value: str) -> Plain:
    """A setting as an environment variable."""
    return {"name": name, "value": value}


def from_pod(name: str, path: str) -> Plain:
    """A setting that the kubelet fills in from the pod's own fields."""
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def mount(volume: str, path: str) -> Plain:
    """A volume as a container sees it; only `TMP` is written to."""
    return {"name": volume, "mountPath": path, "readOnly": True}


def secret_volume(volume: str, name: str) -> Plain:
    """A Secret as a volume. It may come later: what needs it says so, and waits."""
    return {"name": volume, "secret": {"secretName": name, "optional": True, "defaultMode": SECRET_MODE}}


def tmp_volume() -> Plain:
    """The only place where a container may write."""
    return {"name": "tmp", "emptyDir": {"sizeLimit": TMP_SIZE}}


def probe(path: str, port: int, *, period: int, failures: int) -> Plain:
    """An HTTP probe; `period` in seconds."""
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    }
