"""Which topics get in each other's way: a profile's own is read, and others are derived from it."""

from postroom.letter.profile import dead_letter_topic, status_topic


def clash(topic: str, other: str) -> bool:
    """Whether one profile's workers would take the events of the other's, or its dead letters."""
    return topic == other or topic in _derived(other) or other in _derived(topic)


def _derived(topic: str) -> tuple[str, ...]:
    return dead_letter_topic(topic), status_topic(topic), f"{topic}.urgent"
