"""The state of the connection to the brokers, from their last responses and errors.

In: successes and errors of the client, on the polling thread. Out: attributes, readable from any thread;
`worker.conditions` makes the condition of them. A repeated error is logged once per `LOG_INTERVAL_SECONDS`,
because the client reports an unreachable broker many times per second.
"""

import re
import time

import structlog
from confluent_kafka import KafkaError

LOG_INTERVAL_SECONDS = 30.0

AUTH_ERRORS = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED})
"""A broker rejects the credentials, or its certificate is not trusted."""
TRANSPORT_ERRORS = frozenset({KafkaError._TRANSPORT, KafkaError._RESOLVE})
"""The broker is unreachable or closes the connection.

Under TLS 1.3 also a missing client certificate: the broker closes the connection after the handshake.
"""
ACL_ERRORS = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED})

VARIABLE_PART = re.compile(r" \(after \d+ms in state \w+.*\)$")
"""The part of an error text that is different each time."""

log = structlog.get_logger("postroom.kafka")


def is_fatal(error: KafkaError) -> bool:
    """Whether the client cannot continue, for example a static member that another member has replaced.

    An error in place of a record has the code of a fatal error, but its `fatal()` is False.
    """
    return error.fatal() or error.code() == KafkaError._FATAL


class BrokerHealth:
    """The last known state of the brokers and the topic."""

    def __init__(self, topic: str, group: str) -> None:
        self.topic, self.group = topic, group
        self.connected: bool | None = None
        """Whether a broker responds; None before the first response."""
        self.topic_missing = False
        self.auth_error = ""
        """The client's text of the authentication failure; empty without one."""
        self.transport_error = ""
        """The client's text of the connection failure; valid while `connected` is False."""
        self.acl_error = ""
        """The client's text of the missing permission on the topic or group; empty without one."""
        self._topic_forbidden = False
        self._last_reason = (KafkaError.NO_ERROR, "")
        self._logged_at: dict[str, float] = {}

    @property
    def needs_probe(self) -> bool:
        """Whether the state can only change by a request to the brokers.

        A member without partitions receives nothing by itself, so that recovery would stay unnoticed.
        """
        return not self.connected or self.topic_missing or bool(self.acl_error)

    def on_success(self) -> None:
        """Record that a broker returned records or an assignment."""
        self._mark_connected()
        self.topic_missing, self.acl_error = False, ""

    def on_answer(self, error: KafkaError | None) -> None:
        """Record the response to a metadata request for the topic, with its error if there is one."""
        self._mark_connected()
        if error is None:
            self.topic_missing = False
            self.acl_error = "" if self._topic_forbidden else self.acl_error
        else:
            self.on_error(error)

    def on_error(self, error: KafkaError) -> None:
        """Record an error of the client."""
        code = error.code()
        if code == KafkaError.UNKNOWN_TOPIC_OR_PART:
            self.connected, self.topic_missing = True, True
            self._log_rarely("topic does not exist; waiting for its creation", error)
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
        self._log_rarely("kafka client reported an error", error)

    def _mark_connected(self) -> None:
        self.connected, self.auth_error, self.transport_error = True, "", ""
        self._last_reason = KafkaError.NO_ERROR, ""

    def _first_message(self, error: KafkaError) -> str:
        """The text of the first of equal errors: each broker reports the same error with its own name."""
        if self._last_reason[0] != error.code():
            self._last_reason = error.code(), VARIABLE_PART.sub("", error.str())
        return self._last_reason[1]

    def _log_rarely(self, event: str, error: KafkaError) -> None:
        now = time.monotonic()
        if now >= self._logged_at.get(error.name(), 0.0) + LOG_INTERVAL_SECONDS:
            self._logged_at[error.name()] = now
            log.warning(event, topic=self.topic, error=error.str())
