"""The topics that a profile needs: SmtpProfile → WantedTopics. Topics are made and grown, never deleted."""

from postroom.letter.manifest_fields import duration_seconds
from postroom.letter.profile import SmtpProfile, dead_letter_topic, status_topic, topic_of
from postroom_operator.facts import WantedTopic

DEAD_LETTER_PARTITIONS = 1
"""Few records, in the order in which they were given up."""


def wanted_topics(profile: SmtpProfile) -> tuple[WantedTopic, ...]:
    """The topic of the profile's events, that of its dead letters, and that of status events if wanted.

    Dead letters stay as long as identities are remembered: replayed later, one could be a second copy.
    """
    spec, topic = profile.spec, topic_of(profile)
    status = WantedTopic(status_topic(topic), spec.kafka.partitions, _config(spec.kafka.retention))
    return (
        WantedTopic(topic, spec.kafka.partitions, _config(spec.kafka.retention)),
        WantedTopic(dead_letter_topic(topic), DEAD_LETTER_PARTITIONS, _config(spec.dedupe.window)),
        *((status,) if spec.kafka.status_events else ()),
    )


def _config(retention: str) -> dict[str, str]:
    # a compacted topic would drop all but the last letter of each key
    return {"cleanup.policy": "delete", "retention.ms": str(round(duration_seconds(retention) * 1000))}
