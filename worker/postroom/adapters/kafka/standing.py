"""How a consumer stands with its brokers: what they answered last, as facts.

In: what the client reports, on the polling thread. Out: attributes that anybody may read at any time. An
error that repeats is logged once in a while, for a broker that is away errs many times a second.
"""

import re
import time

import structlog
from confluent_kafka import KafkaError

SILENCE_SECONDS = 30.0

NO_ENTRY = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED})
"""The broker is there and lets nobody in, or we don't trust it."""
NO_LINE = frozenset({KafkaError._TRANSPORT, KafkaError._RESOLVE})
"""Nobody is there, or cuts the line; under TLS 1.3 also whoever misses a certificate of ours does that."""
NO_RIGHT = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED})

MOMENT = re.compile(r" \(after \d+ms in state \w+.*\)$")
"""What makes the same error look different each time."""

log = structlog.get_logger("postroom.kafka")


def is_fatal(error: KafkaError) -> bool:
    """Whether the client has given up for good, as a static member does that another has replaced.

    An error that comes in place of a record has the code of a fatal one, and does not call itself fatal.
    """
    return error.fatal() or error.code() == KafkaError._FATAL


class Standing:
    """What is known of the brokers and the topic."""

    def __init__(self, topic: str, group: str) -> None:
        self.topic, self.group = topic, group
        self.connected: bool | None = None
        """Whether a broker answers; None before the first sign."""
        self.topic_missing = False
        self.no_entry = ""
        """Why no broker lets us in, in the client's words; empty when that is not so."""
        self.no_line = ""
        """What came in place of an answer, in the client's words; it counts while `connected` is False."""
        self.no_right = ""
        """What we may not read, or which group we may not join; empty when that is not so."""
        self._topic_forbidden = False
        self._why = (KafkaError.NO_ERROR, "")
        self._said: dict[str, float] = {}

    @property
    def uncertain(self) -> bool:
        """Whether it is worth asking the brokers how things are.

        A member that gets no partition hears nothing by itself, and is well all the same.
        """
        return not self.connected or self.topic_missing or bool(self.no_right)

    def served(self) -> None:
        """A broker gave us what we asked for."""
        self._let_in()
        self.topic_missing, self.no_right = False, ""

    def answered(self, error: KafkaError | None) -> None:
        """A broker answered a question about the topic, with this error if any."""
        self._let_in()
        if error is None:
            self.topic_missing = False
            self.no_right = "" if self._topic_forbidden else self.no_right
        else:
            self.failed(error)

    def failed(self, error: KafkaError) -> None:
        """The client reports an error."""
        code = error.code()
        if code == KafkaError.UNKNOWN_TOPIC_OR_PART:
            self.connected, self.topic_missing = True, True
            self._complain("topic does not exist yet; waiting for it", error)
            return
        if code == KafkaError._ALL_BROKERS_DOWN:
            self.connected = False
        elif code in NO_ENTRY:
            self.connected, self.no_entry = False, self._words(error)
        elif code in NO_LINE:
            self.no_line = self._words(error)
        elif code in NO_RIGHT:
            self.no_right = self._words(error)
            self._topic_forbidden = code == KafkaError.TOPIC_AUTHORIZATION_FAILED
        self._complain("kafka reports", error)

    def _let_in(self) -> None:
        self.connected, self.no_entry, self.no_line = True, "", ""
        self._why = KafkaError.NO_ERROR, ""

    def _words(self, error: KafkaError) -> str:
        """The words in which an error came first: brokers say the same of themselves in turn."""
        if self._why[0] != error.code():
            self._why = error.code(), MOMENT.sub("", error.str())
        return self._why[1]

    def _complain(self, what: str, error: KafkaError) -> None:
        now = time.monotonic()
        if now >= self._said.get(error.name(), 0.0) + SILENCE_SECONDS:
            self._said[error.name()] = now
            log.warning(what, topic=self.topic, error=error.str())
