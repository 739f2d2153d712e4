"""Workers by lag: ProfileView → KEDA's ScaledObject, and a TriggerAuthentication where Kafka asks who calls.

KEDA reads the group's lag with the credentials of the profile's own connections Secret, whose keys it is
told by name; how it connects (TLS, SASL mechanism) is as the operator itself does. Every value of a trigger
is a string, as KEDA wants it. While the profile is suspended its lag grows and says nothing, so the number
of workers is held.
"""

from collections.abc import Iterator

from postroom.letter.profile import consumer_group, topic_of
from postroom_operator import names
from postroom_operator.desired.deployment import connections_secret
from postroom_operator.desired.inputs import EffectiveProfile, KafkaAccess, OperatorDefaults, owner_reference
from postroom_operator.desired.pod import Fields
from postroom_operator.models import Manifest

API_VERSION = "keda.sh/v1alpha1"
POLLING_SECONDS = 15
SCALE_DOWN_SECONDS = 300
"""Scaling down is a rebalance: it waits until the lag has been low this long, and takes one at a time."""
FAILURES = 3
"""Failed looks at Kafka after which the number of workers falls back to the least."""

_SASL = {"PLAIN": "plaintext", "SCRAM-SHA-256": "scram_sha256", "SCRAM-SHA-512": "scram_sha512"}
"""KEDA's words for librdkafka's."""


def autoscaler(view: EffectiveProfile, fixed: OperatorDefaults) -> Iterator[Manifest]:
    """Nothing where the profile does not ask for it or KEDA is not there."""
    if not view.autoscaled:
        return
    secrets = list(_secrets(view, fixed.kafka))
    if secrets:
        yield _object(view, "TriggerAuthentication", {"secretTargetRef": secrets})
    scaled = _object(view, "ScaledObject", _scaling(view, fixed, authenticated=bool(secrets)))
    if view.profile.spec.suspend:
        scaled["metadata"]["annotations"] = {"autoscaling.keda.sh/paused-replicas": str(view.replicas)}
    yield scaled


def _scaling(view: EffectiveProfile, fixed: OperatorDefaults, *, authenticated: bool) -> Fields:
    trigger: Fields = {"type": "kafka", "metadata": _trigger(view, fixed.kafka)}
    if authenticated:
        trigger["authenticationRef"] = {"name": names.worker_object(view.profile.metadata.name)}
    down = {
        "stabilizationWindowSeconds": SCALE_DOWN_SECONDS,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
    }
    return {
        "scaleTargetRef": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": names.worker_object(view.profile.metadata.name),
        },
        "pollingInterval": POLLING_SECONDS,
        "minReplicaCount": view.replicas,
        "maxReplicaCount": view.max_workers,
        "fallback": {"failureThreshold": FAILURES, "replicas": view.replicas},
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": down}}},
        "triggers": [trigger],
    }


def _trigger(view: EffectiveProfile, kafka: KafkaAccess) -> dict[str, str]:
    scaling = view.profile.spec.workers.autoscaling
    assert scaling is not None  # `autoscaled` says so
    topic = topic_of(view.profile)
    found = {
        "bootstrapServers": kafka.bootstrap_servers,
        "consumerGroup": consumer_group(topic),
        "topic": topic,
        "lagThreshold": str(scaling.lag_threshold),
        # as the workers' own auto.offset.reset; KEDA's default is the other one
        "offsetResetPolicy": "earliest",
        # a partition whose head cannot be worked off must not hold workers for ever
        "excludePersistentLag": "true",
        "limitToPartitionsWithLag": "true",
    }
    if kafka.sasl_mechanism:
        found["sasl"] = _SASL[kafka.sasl_mechanism]
    if kafka.tls:
        found["tls"] = "enable"
    return found


def _secrets(view: EffectiveProfile, kafka: KafkaAccess) -> Iterator[dict[str, str]]:
    wanted = {
        "username": ("kafka-username", bool(kafka.sasl_mechanism)),
        "password": ("kafka-password", bool(kafka.sasl_mechanism)),
        "ca": ("kafka-ca.crt", kafka.tls and kafka.authority),
        "cert": ("kafka-tls.crt", kafka.tls and kafka.client_certificate),
        "key": ("kafka-tls.key", kafka.tls and kafka.client_certificate),
    }
    secret = connections_secret(view.profile)
    for parameter, (key, used) in wanted.items():
        if used:
            yield {"parameter": parameter, "name": secret, "key": key}


def _object(view: EffectiveProfile, kind: str, spec: Fields) -> Manifest:
    profile = view.profile
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {
            "name": names.worker_object(profile.metadata.name),
            "namespace": profile.metadata.namespace,
            "labels": names.labels("worker", profile.metadata.name),
            "ownerReferences": [owner_reference(profile, view.uid)],
        },
        "spec": spec,
    }
