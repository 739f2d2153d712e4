"""Whether a topic is still the one that it was: deleted and made again it has its old name and another id.

Offsets of the old one say nothing of the new one, and nobody else tells: a consumer reads on from where it
was, and what was written below that is passed over (KIP-516). The answer is asked for now and then, on the
polling thread, which never waits for it.
"""

import time
from concurrent.futures import Future

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, TopicDescription  # type: ignore[attr-defined]

from postroom.adapters.kafka.settings import QUIET
from postroom.connections import KafkaConnection

LOOK_SECONDS = 5.0
ANSWER_SECONDS = 5.0
KNOCK_SECONDS = 1.0


class TopicId:
    """The id of one topic, as the brokers say it."""

    def __init__(self, kafka: KafkaConnection, topic: str) -> None:
        self._admin: AdminClient | None = AdminClient(
            {**kafka.client_settings(), "client.id": "postroom-worker", **QUIET}
        )
        self._topic = topic
        self._known = ""
        self._asked: Future[TopicDescription] | None = None
        self._due = 0.0

    def changed(self) -> bool:
        """Whether the topic is another one than at the last answer. A broker without ids never says so."""
        now = time.monotonic()
        if self._asked is None:
            if self._admin is not None and now >= self._due:
                self._due = now + LOOK_SECONDS
                wanted = TopicCollection([self._topic])
                self._asked = self._admin.describe_topics(wanted, request_timeout=ANSWER_SECONDS)[self._topic]
            return False
        if not self._asked.done():
            return False
        answer, self._asked = self._asked, None
        try:
            found = str(answer.result().topic_id)
        except KafkaException:
            return False  # it is not there, or nobody answers: the consumer hears of that itself
        before, self._known = self._known, found
        return before not in ("", found)

    def answered(self) -> bool:
        """Whether a broker answers anything within a second; waits for it, on any thread."""
        admin = self._admin
        try:
            if admin is not None:  # it is let go of at the end, and then there is nothing to wait for
                admin.list_topics(self._topic, timeout=KNOCK_SECONDS)
        except KafkaException:
            return False
        return True

    def close(self) -> None:
        """Let the client go, here and now.

        Garbage is collected on any thread. On the client's own, with an answer that comes late, that would
        be its end: the library aborts the process.
        """
        self._admin = None
