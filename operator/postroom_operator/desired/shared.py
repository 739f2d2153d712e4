"""What a namespace's own mail servers have in common, the sandbox and the bounce intake.

There is one for all profiles that need it, and it goes with the last of them; it takes mail at one port and
says how it is at another.
"""

from collections.abc import Iterable, Mapping

from postroom.letter.profile import SmtpProfile
from postroom_operator import names
from postroom_operator.cluster import Manifest
from postroom_operator.desired.pod import Plain, probe
from postroom_operator.desired.view import owner

Owner = tuple[SmtpProfile, str]
"""A profile with its uid."""


def shared_metadata(name: str, component: str, namespace: str, owners: Iterable[Owner]) -> Plain:
    """Of everything that the server is made of."""
    references = [owner(profile, uid, controller=False) for profile, uid in owners]
    return {
        "name": name,
        "namespace": namespace,
        "labels": names.labels(component),
        "ownerReferences": sorted(references, key=lambda each: str(each["uid"])),
    }


def mail_server(smtp: int, http: int, resources: Plain) -> Plain:
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


def service(metadata: Plain, ports: Mapping[str, int]) -> Manifest:
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
