"""The consumer Deployment of one profile: ProfileView → manifest.

The number of workers is given only while nobody else owns it: under an autoscaler the manifest has no
`spec.replicas` at all, or every apply would fight it. A suspended profile keeps its workers, because letters
that were deferred, and dead letters that are not on their topic yet, still have to leave; the workers read
no new events.
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
"""POSTROOM_GRACE: what letters under way may take."""
TERMINATION_SECONDS = 60
"""More than the grace and the 15 s in which partitions are given back; the rest is for the ledger."""
MIN_READY_SECONDS = 10
"""A newcomer counts only once its group has come to rest, so that a roll-out is no storm of rebalances."""

PROFILE_FOLDER = "/etc/postroom/profile"
BUNDLES_FOLDER = "/etc/postroom/bundles"
CONNECTIONS_FOLDER = "/var/run/postroom/connections"
SECRETS_FOLDER = "/var/run/postroom/secrets"
CONNECTIONS_SECRET = "postroom-connections"
WORKER = "worker"
"""The container that sends."""
DELIVERY_ALLOWED = "POSTROOM_DELIVERY_ALLOWED"

RESOURCES = {"requests": {"cpu": "100m", "memory": "192Mi"}, "limits": {"memory": "512Mi"}}
"""No CPU limit: throttled workers miss the deadlines of their leases."""


def deployment(view: EffectiveProfile, fixed: OperatorDefaults) -> Manifest:
    """The workers of a profile."""
    profile = view.profile
    labels = names.labels("worker", profile.metadata.name)
    selector = names.selector(labels)
    spec: Fields = {
        "selector": {"matchLabels": selector},
        "minReadySeconds": MIN_READY_SECONDS,
        # somebody who pauses a roll-out would keep workers that may deliver no more
        "paused": False,
        "revisionHistoryLimit": 3,
        "strategy": _strategy(view),
        "template": {
            "metadata": {
                "labels": labels,
                "annotations": {
                    "kubectl.kubernetes.io/default-container": "worker",
                    names.PROFILE_HASH: profile_hash(profile, view.usable_fallback),
                    names.EFFECT: view.effect,
                },
            },
            "spec": _pod(view, fixed, selector),
        },
    }
    if not view.autoscaled:
        spec["replicas"] = view.replicas
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": names.worker_object(profile.metadata.name),
            "namespace": profile.metadata.namespace,
            "labels": labels,
            "ownerReferences": [owner_reference(profile, view.uid)],
        },
        "spec": spec,
    }


def _strategy(view: EffectiveProfile) -> Fields:
    """How workers are replaced: one at a time, the new one first, so that a letter waits for nobody.

    But never side by side with workers that do something else: while their successors start, or cannot,
    they would put letters into the sandbox that are meant for people, or send what was forbidden meanwhile.
    """
    if view.effect_changing:
        return {"type": "Recreate"}
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def profile_hash(profile: SmtpProfile, spare: SmtpProfile | None = None) -> str:
    """A hash of what a worker reads of its profile, and of the one whose relay takes over, when it starts.

    How many workers there are, where they run and what the topic looks like is not theirs to read. A field
    that is set to its default is as good as one that is not set.
    """
    text = profile.spec.model_dump(
        mode="json",
        by_alias=True,
        exclude_defaults=True,
        exclude={"workers": True, "network_policy": True, "kafka": {"partitions", "retention"}},
    )
    said = _without_empty(text)
    if spare is not None:
        of_relay = {"smtp", "limits", "circuit_breaker"}
        other = spare.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, include=of_relay)
        said |= {"fallback": _without_empty(other)}
    return names.digest(json.dumps(said, sort_keys=True), 16)


def _without_empty(text: Fields) -> Fields:
    """Without parts that say nothing, as what is left of one that is all defaults."""
    parts = {key: _without_empty(each) if isinstance(each, dict) else each for key, each in text.items()}
    return {key: each for key, each in parts.items() if each != {}}


def connections_secret(profile: SmtpProfile) -> str:
    """The Secret with the credentials of Kafka and the ledger."""
    ref = profile.spec.connections_secret_ref
    return ref.name if ref else CONNECTIONS_SECRET


def secrets_of(view: EffectiveProfile) -> list[str]:
    """The other Secrets that the profile names, and those of the relay that takes over, sorted."""
    found = [one.secret_ref.name for one in view.profile.spec.dkim]
    if view.profile.spec.bounces:
        found.append(view.profile.spec.bounces.secret_ref.name)
    for callback in view.profile.spec.callbacks:
        found += [callback.secret_ref.name, *([callback.ca_ref.name] if callback.ca_ref else [])]
    for profile in (view.profile, view.usable_fallback):
        found += _of_relay(profile.spec.smtp) if profile and profile.spec.smtp else []
    return sorted(set(found))


def _of_relay(smtp: SmtpSpec) -> list[str]:
    found = [ref.name for ref in (smtp.tls.ca_ref, smtp.tls.client_cert_secret_ref) if ref]
    return found + ([smtp.auth.secret_ref.name] if smtp.auth else [])


def _pod(view: EffectiveProfile, fixed: OperatorDefaults, selector: dict[str, str]) -> Fields:
    workers = view.profile.spec.workers
    spec = {
        **pod_spec(fixed),
        "terminationGracePeriodSeconds": TERMINATION_SECONDS,
        "initContainers": [_migrate(view, fixed)],
        "containers": [_worker(view, fixed)],
        "volumes": _volumes(view),
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


def _migrate(view: EffectiveProfile, fixed: OperatorDefaults) -> Fields:
    env = [
        variable("POSTROOM_CONNECTIONS", CONNECTIONS_FOLDER),
        from_pod("POSTROOM_NAMESPACE", "metadata.namespace"),
    ]
    mounts = [TMP, mount("connections", CONNECTIONS_FOLDER)]
    return {
        **container("migrate", ["migrate"], env, fixed),
        "resources": _resources(view.profile),
        "volumeMounts": mounts,
    }


def _worker(view: EffectiveProfile, fixed: OperatorDefaults) -> Fields:
    secrets = [mount(volume, f"{SECRETS_FOLDER}/{name}") for volume, name in _secret_volumes(view)]
    return {
        **container(WORKER, ["worker"], _environment(view, fixed), fixed),
        "ports": [{"name": "http", "containerPort": names.WORKER_HTTP_PORT, "protocol": "TCP"}],
        "resources": _resources(view.profile),
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
    """Whether a pod, or a pod template, as it is in the cluster is told that its letters may leave it.

    In whatever words: all but our own `false` may mean yes, and so may what a worker is told otherwise.
    """
    containers = (pod.get("spec") or {}).get("containers") or ()
    told = [
        _delivery_variables(each)
        for each in containers
        if each["name"] == WORKER or _delivery_variables(each)
    ]
    return any(each != [{"name": DELIVERY_ALLOWED, "value": "false"}] for each in told)


def _delivery_variables(container: Fields) -> list[Fields]:
    """What a container is told of delivery; a name may stand there more than once."""
    return [each for each in container.get("env") or () if each["name"] == DELIVERY_ALLOWED]


def _environment(view: EffectiveProfile, fixed: OperatorDefaults) -> list[Fields]:
    spare = [variable("POSTROOM_FALLBACK", f"{PROFILE_FOLDER}/fallback.yaml")] if view.usable_fallback else []
    allow = fixed.callback_allow if view.profile.spec.callbacks else ""
    return [
        variable("POSTROOM_PROFILE", f"{PROFILE_FOLDER}/profile.yaml"),
        *spare,
        variable("POSTROOM_BUNDLES", BUNDLES_FOLDER),
        variable("POSTROOM_CONNECTIONS", CONNECTIONS_FOLDER),
        variable("POSTROOM_SECRETS", SECRETS_FOLDER),
        variable("POSTROOM_SANDBOX", f"{names.SANDBOX}:1025"),
        variable("POSTROOM_HTTP", f"0.0.0.0:{names.WORKER_HTTP_PORT}"),
        variable("POSTROOM_GRACE", str(GRACE_SECONDS)),
        variable(DELIVERY_ALLOWED, "true" if view.delivery_allowed else "false"),
        *([variable("POSTROOM_CALLBACK_ALLOW", allow)] if allow else []),
        from_pod("POSTROOM_NAMESPACE", "metadata.namespace"),
        from_pod("POSTROOM_POD", "metadata.name"),
        from_pod("POSTROOM_PROFILE_HASH", f"metadata.annotations['{names.PROFILE_HASH}']"),
    ]


def _volumes(view: EffectiveProfile) -> list[Fields]:
    profile, name = view.profile, view.profile.metadata.name
    shards = [_shard(name, shard) for shard in range(names.SHARDS)]
    return [
        tmp_volume(),
        {"name": "profile", "configMap": {"name": names.profile_config_map(name)}},
        {"name": "bundles", "projected": {"sources": shards}},
        secret_volume("connections", connections_secret(profile)),
        *(secret_volume(volume, secret) for volume, secret in _secret_volumes(view)),
    ]


def _shard(profile: str, shard: int) -> Fields:
    """Its one key alone: what somebody adds to the ConfigMap beside it reaches no worker."""
    key = names.shard_key(shard)
    items = [{"key": key, "path": key}]
    return {"configMap": {"name": names.bundle_config_map(profile, shard), "items": items, "optional": True}}


def _secret_volumes(view: EffectiveProfile) -> list[tuple[str, str]]:
    """Volume and Secret; a Secret's name can be longer than a volume's may be."""
    return [(f"secret-{number}", name) for number, name in enumerate(secrets_of(view))]


def _resources(profile: SmtpProfile) -> dict[str, Any]:
    return profile.spec.workers.resources or RESOURCES
