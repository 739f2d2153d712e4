"""Autoscaling by lag: `EffectiveProfile` → KEDA's ScaledObject, and a TriggerAuthentication where Kafka needs
one. Pure.

KEDA reads the consumer group's lag with the credentials of the profile's own connections Secret, which the
manifests name by key; how it connects (TLS, SASL mechanism) is how the operator itself connects. Every value
of a trigger is text, as KEDA requires. The number of workers is kept while the profile is suspended, because
its lag then grows without meaning.
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
"""Scaling down causes a rebalance, so that it waits until the lag was low this long, and removes one
worker."""
FAILURES = 3
"""Failed polls of Kafka after which the number of workers falls back to the minimum."""

_SASL = {"PLAIN": "plaintext", "SCRAM-SHA-256": "scram_sha256", "SCRAM-SHA-512": "scram_sha512"}
"""librdkafka's name of a mechanism → KEDA's."""


def autoscaler(effective: EffectiveProfile, defaults: OperatorDefaults) -> Iterator[Manifest]:
    """The objects for KEDA; none where the profile has no autoscaling or KEDA is not installed."""
    if not effective.autoscaled:
        return
    secrets = list(_secrets(effective, defaults.kafka))
    if secrets:
        yield _object(effective, "TriggerAuthentication", {"secretTargetRef": secrets})
    scaled = _object(effective, "ScaledObject", _scaling(effective, defaults, authenticated=bool(secrets)))
    if effective.profile.spec.suspend:
        scaled["metadata"]["annotations"] = {"autoscaling.keda.sh/paused-replicas": str(effective.replicas)}
    yield scaled


def _scaling(effective: EffectiveProfile, defaults: OperatorDefaults, *, authenticated: bool) -> Fields:
    trigger: Fields = {"type": "kafka", "metadata": _trigger(effective, defaults.kafka)}
    if authenticated:
        trigger["authenticationRef"] = {"name": names.worker_object(effective.profile.metadata.name)}
    down = {
        "stabilizationWindowSeconds": SCALE_DOWN_SECONDS,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
    }
    return {
        "scaleTargetRef": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": names.worker_object(effective.profile.metadata.name),
        },
        "pollingInterval": POLLING_SECONDS,
        "minReplicaCount": effective.replicas,
        "maxReplicaCount": effective.max_workers,
        "fallback": {"failureThreshold": FAILURES, "replicas": effective.replicas},
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": down}}},
        "triggers": [trigger],
    }


def _trigger(effective: EffectiveProfile, kafka: KafkaAccess) -> dict[str, str]:
    scaling = effective.profile.spec.workers.autoscaling
    assert scaling is not None  # as `autoscaled` implies
    topic = topic_of(effective.profile)
    found = {
        "bootstrapServers": kafka.bootstrap_servers,
        "consumerGroup": consumer_group(topic),
        "topic": topic,
        "lagThreshold": str(scaling.lag_threshold),
        # as the workers' auto.offset.reset; KEDA's default is latest
        "offsetResetPolicy": "earliest",
        # a partition whose first event cannot be processed must not keep workers running
        "excludePersistentLag": "true",
        "limitToPartitionsWithLag": "true",
    }
    if kafka.sasl_mechanism:
        found["sasl"] = _SASL[kafka.sasl_mechanism]
    if kafka.tls:
        found["tls"] = "enable"
    return found


def _secrets(effective: EffectiveProfile, kafka: KafkaAccess) -> Iterator[dict[str, str]]:
    wanted = {
        "username": ("kafka-username", bool(kafka.sasl_mechanism)),
        "password": ("kafka-password", bool(kafka.sasl_mechanism)),
        "ca": ("kafka-ca.crt", kafka.tls and kafka.authority),
        "cert": ("kafka-tls.crt", kafka.tls and kafka.client_certificate),
        "key": ("kafka-tls.key", kafka.tls and kafka.client_certificate),
    }
    secret = connections_secret(effective.profile)
    for parameter, (key, used) in wanted.items():
        if used:
            yield {"parameter": parameter, "name": secret, "key": key}


def _object(effective: EffectiveProfile, kind: str, spec: Fields) -> Manifest:
    profile = effective.profile
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {
            "name": names.worker_object(profile.metadata.name),
            "namespace": profile.metadata.namespace,
            "labels": names.labels("worker", profile.metadata.name),
            "ownerReferences": [owner_reference(profile, effective.uid)],
        },
        "spec": spec,
    }
