"""READ FIRST: everything that an SmtpProfile needs in the cluster and in Kafka. Pure.

Input: an `EffectiveProfile` and the `OperatorDefaults`. Output: the manifests in the order in which they are
applied, with exactly the fields that the operator owns. The ConfigMaps and the NetworkPolicy come before the
Deployment, so that no worker starts with the profile's previous content or without its NetworkPolicy. Topics
are created and grown, never deleted.
"""

from collections.abc import Iterator

from postroom.letter.manifest_fields import duration_seconds
from postroom.letter.profile import SmtpProfile, dead_letter_topic, status_topic, topic_of
from postroom_operator import names
from postroom_operator.desired.autoscaler import autoscaler
from postroom_operator.desired.bundle import bundle_config_maps, profile_config_map
from postroom_operator.desired.deployment import deployment
from postroom_operator.desired.inputs import EffectiveProfile, OperatorDefaults, owner_reference
from postroom_operator.desired.network import worker_policy
from postroom_operator.models import Manifest, RequiredTopic

DEAD_LETTER_PARTITIONS = 1
"""There are few dead letters, and one partition keeps their order."""


def profile_manifests(effective: EffectiveProfile, defaults: OperatorDefaults) -> list[Manifest]:
    """All objects of a profile."""
    return [
        *bundle_config_maps(effective),
        profile_config_map(effective),
        worker_policy(effective, defaults),
        deployment(effective, defaults),
        *disruption_budget(effective),
        *autoscaler(effective, defaults),
    ]


def disruption_budget(effective: EffectiveProfile) -> Iterator[Manifest]:
    """The PodDisruptionBudget: a node drain evicts one worker at a time, and any worker that is not ready.

    Only where more than one worker can run: for a single worker it would have no effect or block every drain.
    """
    if effective.max_workers < 2:
        return
    profile = effective.profile
    labels = names.labels("worker", profile.metadata.name)
    yield {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": names.worker_object(profile.metadata.name),
            "namespace": profile.metadata.namespace,
            "labels": labels,
            "ownerReferences": [owner_reference(profile, effective.uid)],
        },
        "spec": {
            "selector": {"matchLabels": names.selector(labels)},
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def required_topics(profile: SmtpProfile) -> tuple[RequiredTopic, ...]:
    """The topics of the profile's events, of its dead letters, and of its status events if it publishes any.

    Dead letters are kept as long as identities are remembered: a later replay could send a second copy.
    """
    spec, topic = profile.spec, topic_of(profile)
    status = RequiredTopic(status_topic(topic), spec.kafka.partitions, _topic_config(spec.kafka.retention))
    return (
        RequiredTopic(topic, spec.kafka.partitions, _topic_config(spec.kafka.retention)),
        RequiredTopic(dead_letter_topic(topic), DEAD_LETTER_PARTITIONS, _topic_config(spec.dedupe.window)),
        *((status,) if spec.kafka.status_events else ()),
    )


def _topic_config(retention: str) -> dict[str, str]:
    # compaction would drop all events but the last of each key
    return {"cleanup.policy": "delete", "retention.ms": str(round(duration_seconds(retention) * 1000))}
