"""The Deployment of a profile's workers: `EffectiveProfile` → manifest. Pure.

The number of workers is given only while no autoscaler owns it: under an autoscaler the manifest has no
`spec.replicas`, or every apply would override it. A suspended profile keeps its workers, because deferred
letters, and dead letters that are not on their topic yet, still have to leave; the workers read no new
events.
"""

import json
from typing import Any

from postroom.letter.profile import SmtpProfile, SmtpSpec
from postroom_operator import names
from postroom_operator.desired.inputs import EffectiveProfile, OperatorDefaults, owner_reference
from postroom_operator.desired.pod import (
    TMP,
    Fields,
    container,
    from_pod,
    mount,
    pod_spec,
    probe,
    secret_volume,
    tmp_volume,
    variable,
)
from postroom_operator.models import Manifest

GRACE_SECONDS = 20
"""POSTROOM_GRACE: the time for letters in flight."""
TERMINATION_SECONDS = 60
"""The grace, 15 s in which partitions are given back, and the rest for the ledger."""
MIN_READY_SECONDS = 10
"""A new worker counts as available after its group has rebalanced, so that rebalances do not overlap."""

PROFILE_FOLDER = "/etc/postroom/profile"
BUNDLES_FOLDER = "/etc/postroom/bundles"
CONNECTIONS_FOLDER = "/var/run/postroom/connections"
SECRETS_FOLDER = "/var/run/postroom/secrets"
CONNECTIONS_SECRET = "postroom-connections"
WORKER = "worker"
"""The name of the container that sends."""
DELIVERY_ALLOWED = "POSTROOM_DELIVERY_ALLOWED"

RESOURCES = {"requests": {"cpu": "100m", "memory": "192Mi"}, "limits": {"memory": "512Mi"}}
"""Without a CPU limit: throttled workers would miss the deadlines of their leases."""


def deployment(effective: EffectiveProfile, defaults: OperatorDefaults) -> Manifest:
    """The workers of a profile."""
    profile = effective.profile
    labels = names.labels("worker", profile.metadata.name)
    selector = names.selector(labels)
    spec: Fields = {
        "selector": {"matchLabels": selector},
        "minReadySeconds": MIN_READY_SECONDS,
        # owned, because a paused roll-out would keep workers that may no longer deliver
        "paused": False,
        "revisionHistoryLimit": 3,
        "strategy": _strategy(effective),
        "template": {
            "metadata": {
                "labels": labels,
                "annotations": {
                    "kubectl.kubernetes.io/default-container": "worker",
                    names.PROFILE_HASH: profile_hash(profile, effective.usable_fallback),
                    names.EFFECT: effective.effect,
                },
            },
            "spec": _pod(effective, defaults, selector),
        },
    }
    if not effective.autoscaled:
        spec["replicas"] = effective.replicas
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": names.worker_object(profile.metadata.name),
            "namespace": profile.metadata.namespace,
            "labels": labels,
            "ownerReferences": [owner_reference(profile, effective.uid)],
        },
        "spec": spec,
    }


def _strategy(effective: EffectiveProfile) -> Fields:
    """The roll-out strategy: one worker at a time, the new one first.

    Where the effect changes, all old workers end first: beside the new ones they would put letters into the
    sandbox that are meant for recipients, or send letters that are no longer allowed.
    """
    if effective.effect_changing:
        return {"type": "Recreate"}
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def profile_hash(profile: SmtpProfile, fallback: SmtpProfile | None = None) -> str:
    """A hash of what a worker reads at its start, of its profile and of the fallback profile.

    The number and place of workers and the topic's settings are not part of it. A field that is set to its
    default counts as not set.
    """
    text = profile.spec.model_dump(
        mode="json",
        by_alias=True,
        exclude_defaults=True,
        exclude={"workers": True, "network_policy": True, "kafka": {"partitions", "retention"}},
    )
    relevant = _without_empty(text)
    if fallback is not None:
        of_relay = {"smtp", "limits", "circuit_breaker"}
        other = fallback.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, include=of_relay)
        relevant |= {"fallback": _without_empty(other)}
    return names.digest(json.dumps(relevant, sort_keys=True), 16)


def _without_empty(text: Fields) -> Fields:
    """The members without empty objects, which are left of parts that have defaults only."""
    members = {
        key: _without_empty(member) if isinstance(member, dict) else member for key, member in text.items()
    }
    return {key: member for key, member in members.items() if member != {}}


def connections_secret(profile: SmtpProfile) -> str:
    """The Secret with the credentials of Kafka and the ledger."""
    ref = profile.spec.connections_secret_ref
    return ref.name if ref else CONNECTIONS_SECRET


def secrets_of(effective: EffectiveProfile) -> list[str]:
    """The other Secrets of the profile and of the fallback's relay, sorted."""
    found = [signature.secret_ref.name for signature in effective.profile.spec.dkim]
    if effective.profile.spec.bounces:
        found.append(effective.profile.spec.bounces.secret_ref.name)
    for callback in effective.profile.spec.callbacks:
        found += [callback.secret_ref.name, *([callback.ca_ref.name] if callback.ca_ref else [])]
    for profile in (effective.profile, effective.usable_fallback):
        found += _relay_secrets(profile.spec.smtp) if profile and profile.spec.smtp else []
    return sorted(set(found))


def _relay_secrets(smtp: SmtpSpec) -> list[str]:
    found = [ref.name for ref in (smtp.tls.ca_ref, smtp.tls.client_cert_secret_ref) if ref]
    return found + ([smtp.auth.secret_ref.name] if smtp.auth else [])


def _pod(effective: EffectiveProfile, defaults: OperatorDefaults, selector: dict[str, str]) -> Fields:
    workers = effective.profile.spec.workers
    spec = {
        **pod_spec(defaults),
        "terminationGracePeriodSeconds": TERMINATION_SECONDS,
        "initContainers": [_migrate(effective, defaults)],
        "containers": [_worker(effective, defaults)],
        "volumes": _volumes(effective),
        "topologySpreadConstraints": [
            {
                "topologyKey": key,
                "maxSkew": 1,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector},
            }
            for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
        ],
    }
    chosen = {
        "nodeSelector": workers.node_selector,
        "tolerations": workers.tolerations,
        "priorityClassName": workers.priority_class_name,
    }
    return spec | {key: value for key, value in chosen.items() if value}


def _migrate(effective: EffectiveProfile, defaults: OperatorDefaults) -> Fields:
    env = [
        variable("POSTROOM_CONNECTIONS", CONNECTIONS_FOLDER),
        from_pod("POSTROOM_NAMESPACE", "metadata.namespace"),
    ]
    mounts = [TMP, mount("connections", CONNECTIONS_FOLDER)]
    return {
        **container("migrate", ["migrate"], env, defaults),
        "resources": _resources(effective.profile),
        "volumeMounts": mounts,
    }


def _worker(effective: EffectiveProfile, defaults: OperatorDefaults) -> Fields:
    secrets = [mount(volume, f"{SECRETS_FOLDER}/{name}") for volume, name in _secret_volumes(effective)]
    return {
        **container(WORKER, ["worker"], _environment(effective, defaults), defaults),
        "ports": [{"name": "http", "containerPort": names.WORKER_HTTP_PORT, "protocol": "TCP"}],
        "resources": _resources(effective.profile),
        "startupProbe": probe("/healthz", names.WORKER_HTTP_PORT, period=2, failures=30),
        "livenessProbe": probe("/healthz", names.WORKER_HTTP_PORT, period=10, failures=3),
        "readinessProbe": probe("/readyz", names.WORKER_HTTP_PORT, period=5, failures=2),
        "volumeMounts": [
            TMP,
            mount("profile", PROFILE_FOLDER),
            mount("bundles", BUNDLES_FOLDER),
            mount("connections", CONNECTIONS_FOLDER),
            *secrets,
        ],
    }


def may_deliver(pod: Manifest) -> bool:
    """Whether the environment of a pod or pod template allows its worker to deliver.

    Anything but the operator's own `false` counts as allowed, because a user may have edited it.
    """
    containers = (pod.get("spec") or {}).get("containers") or ()
    settings = [
        _delivery_variables(container)
        for container in containers
        if container["name"] == WORKER or _delivery_variables(container)
    ]
    return any(variables != [{"name": DELIVERY_ALLOWED, "value": "false"}] for variables in settings)


def _delivery_variables(container: Fields) -> list[Fields]:
    """The variables that allow delivery; a container may have a name more than once."""
    return [entry for entry in container.get("env") or () if entry["name"] == DELIVERY_ALLOWED]


def _environment(effective: EffectiveProfile, defaults: OperatorDefaults) -> list[Fields]:
    fallback = (
        [variable("POSTROOM_FALLBACK", f"{PROFILE_FOLDER}/fallback.yaml")]
        if effective.usable_fallback
        else []
    )
    allow = defaults.callback_allow if effective.profile.spec.callbacks else ""
    return [
        variable("POSTROOM_PROFILE", f"{PROFILE_FOLDER}/profile.yaml"),
        *fallback,
        variable("POSTROOM_BUNDLES", BUNDLES_FOLDER),
        variable("POSTROOM_CONNECTIONS", CONNECTIONS_FOLDER),
        variable("POSTROOM_SECRETS", SECRETS_FOLDER),
        variable("POSTROOM_SANDBOX", f"{names.SANDBOX}:1025"),
        variable("POSTROOM_HTTP", f"0.0.0.0:{names.WORKER_HTTP_PORT}"),
        variable("POSTROOM_GRACE", str(GRACE_SECONDS)),
        variable(DELIVERY_ALLOWED, "true" if effective.delivery_allowed else "false"),
        *([variable("POSTROOM_CALLBACK_ALLOW", allow)] if allow else []),
        from_pod("POSTROOM_NAMESPACE", "metadata.namespace"),
        from_pod("POSTROOM_POD", "metadata.name"),
        from_pod("POSTROOM_PROFILE_HASH", f"metadata.annotations['{names.PROFILE_HASH}']"),
    ]


def _volumes(effective: EffectiveProfile) -> list[Fields]:
    profile, name = effective.profile, effective.profile.metadata.name
    shards = [_shard(name, shard) for shard in range(names.SHARDS)]
    return [
        tmp_volume(),
        {"name": "profile", "configMap": {"name": names.profile_config_map(name)}},
        {"name": "bundles", "projected": {"sources": shards}},
        secret_volume("connections", connections_secret(profile)),
        *(secret_volume(volume, secret) for volume, secret in _secret_volumes(effective)),
    ]


def _shard(profile: str, shard: int) -> Fields:
    """The projection of a shard: its own key alone, so that other keys of the ConfigMap reach no worker."""
    key = names.shard_key(shard)
    items = [{"key": key, "path": key}]
    return {"configMap": {"name": names.bundle_config_map(profile, shard), "items": items, "optional": True}}


def _secret_volumes(effective: EffectiveProfile) -> list[tuple[str, str]]:
    """Volumes and their Secrets. Volumes are numbered, because a Secret's name can be too long for a
    volume.
    """
    return [(f"secret-{number}", name) for number, name in enumerate(secrets_of(effective))]


def _resources(profile: SmtpProfile) -> dict[str, Any]:
    return profile.spec.workers.resources or RESOURCES
