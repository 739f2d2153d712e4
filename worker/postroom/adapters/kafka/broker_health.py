"""How a consumer stands with its brokers: what they answered last, as facts.

In: what the client reports, on the polling thread. Out: attributes that anybody may read at any time. An
error that repeats is logged once in a while, for a broker that is away errs many times a second.
"""

import re
import time

import structlog
from confluent_kafka import KafkaError

LOG_INTERVAL_SECONDS = 30.0

AUTH_ERRORS = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED})
"""The broker is there and lets nobody in, or we don't trust it."""
TRANSPORT_ERRORS = frozenset({KafkaError._TRANSPORT, KafkaError._RESOLVE})
"""Nobody is there, or cuts the line; under TLS 1.3 also whoever misses a certificate of ours does that."""
ACL_ERRORS = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED})

VARIABLE_PART = re.compile(r" \(after \d+ms in state \w+.*\)$")
"""What makes the same error look different each time."""

log = structlog.get_logger("postroom.kafka")


def is_fatal(error: KafkaError) -> bool:
    """Whether the client has given up for good, as a static member does that another has replaced.

    An error that comes in place of a record has the code of a fatal one, and does not call itself fatal.
    """
    return error.fatal() or error.code() == KafkaError._FATAL


class BrokerHealth:
    """What is known of the brokers and the topic."""

    def __init__(self, topic: str, group: str) -> None:
        self.topic, self.group = topic, group
        self.connected: bool | None = None
        """Whether a broker answers; None before the first sign."""
        self.topic_missing = False
        self.auth_error = ""
        """Why no broker lets us in, in the client's words; empty when that is not so."""
        self.transport_error = ""
        """What came in place of an answer, in the client's words; it counts while `connected` is False."""
        self.acl_error = ""
        """What we may not read, or which group we may not join; empty when that is not so."""
        self._topic_forbidden = False
        self._last_reason = (KafkaError.NO_ERROR, "")
        self._logged_at: dict[str, float] = {}

    @property
    def needs_probe(self) -> bool:
        """Whether it is worth asking the brokers how things are.

        A member that gets no partition hears nothing by itself, and is well all the same.
        """
        return not self.connected or self.topic_missing or bool(self.acl_error)

    def on_success(self) -> None:
        """A broker gave us what we asked for."""
        self._mark_connected()
        self.topic_missing, self.acl_error = False, ""

    def on_answer(self, error: KafkaError | None) -> None:
        """A broker answered a question about the topic, with this error if any."""
        self._mark_connected()
        if error is None:
            self.topic_missing = False
            self.acl_error = "" if self._topic_forbidden else self.acl_error
        else:
            self.on_error(error)

    def on_error(self, error: KafkaError) -> None:
        """The client reports an error."""
        code = error.code()
        if code == KafkaError.UNKNOWN_TOPIC_OR_PART:
            self.connected, self.topic_missing = True, True
            self._log_rarely("topic does not exist yet; waiting for it", error)
            return
        if code == KafkaError._ALL_BROKERS_DOWN:
            self.connected = False
        elif code in AUTH_ERRORS:
            self.connected, self.auth_error = False, self._first_message(error)
        elif code in TRANSPORT_ERRORS:
            self.transport_error = self._first_message(error)
        elif code in ACL_ERRORS:
            self.acl_error = self._first_message(error)
            self._topic_forbidden = code == KafkaError.TOPIC_AUTHORIZATION_FAILED
        self._log_rarely("kafka reports", error)

    def _mark_connected(self) -> None:
        self.connected, self.auth_error, self.transport_error = True, "", ""
        self._last_reason = KafkaError.NO_ERROR, ""

    def _first_message(self, error: KafkaError) -> str:
        """The words in which an error came first: brokers say the same of themselves in turn."""
        if self._last_reason[0] != error.code():
            self._last_reason = error.code(), VARIABLE_PART.sub("", error.str())
        return self._last_reason[1]

    def _log_rarely(self, what: str, error: KafkaError) -> None:
        now = time.monotonic()
        if now >= self._logged_at.get(error.name(), 0.0) + LOG_INTERVAL_SECONDS:
            self._logged_at[error.name()] = now
            log.warning(what, topic=self.topic, error=error.str())
