"""READ FIRST: everything that one SmtpProfile asks of the cluster, in the order in which it is applied.

ProfileView and Fixed in, manifests out: exactly the fields that we own. The ConfigMaps and the NetworkPolicy
come before the Deployment, so that no worker starts on what its profile said before, or without its walls.

How many of a profile's workers a drain of nodes may take at once: ProfileView → PodDisruptionBudget.

Only where more than one can run: a budget for a single worker would either do nothing or block every drain.

The topics that a profile needs: SmtpProfile → WantedTopics. Topics are made and grown, never deleted.
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


def profile_manifests(view: EffectiveProfile, fixed: OperatorDefaults) -> list[Manifest]:
    """What should be there for a profile."""
    return [
        *bundle_config_maps(view),
        profile_config_map(view),
        worker_policy(view, fixed),
        deployment(view, fixed),
        *budget(view),
        *autoscaler(view, fixed),
    ]


def budget(view: EffectiveProfile) -> Iterator[Manifest]:
    """One worker at a time; a worker that is not ready holds no drain up."""
    if view.max_workers < 2:
        return
    profile = view.profile
    labels = names.labels("worker", profile.metadata.name)
    yield {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": names.worker_object(profile.metadata.name),
            "namespace": profile.metadata.namespace,
            "labels": labels,
            "ownerReferences": [owner_reference(profile, view.uid)],
        },
        "spec": {
            "selector": {"matchLabels": names.selector(labels)},
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


DEAD_LETTER_PARTITIONS = 1
"""Few records, in the order in which they were given up."""


def required_topics(profile: SmtpProfile) -> tuple[RequiredTopic, ...]:
    """The topic of the profile's events, that of its dead letters, and that of status events if wanted.

    Dead letters stay as long as identities are remembered: replayed later, one could be a second copy.
    """
    spec, topic = profile.spec, topic_of(profile)
    status = RequiredTopic(status_topic(topic), spec.kafka.partitions, _config(spec.kafka.retention))
    return (
        RequiredTopic(topic, spec.kafka.partitions, _config(spec.kafka.retention)),
        RequiredTopic(dead_letter_topic(topic), DEAD_LETTER_PARTITIONS, _config(spec.dedupe.window)),
        *((status,) if spec.kafka.status_events else ()),
    )


def _config(retention: str) -> dict[str, str]:
    # a compacted topic would drop all but the last letter of each key
    return {"cleanup.policy": "delete", "retention.ms": str(round(duration_seconds(retention) * 1000))}
