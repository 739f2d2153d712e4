"""Parses and validates the connections Secret: how to reach Kafka and the ledger.

In: the keys and texts of the Secret, and the folder where it is mounted, for files that the Kafka client
reads. Out: immutable values; `KafkaConnection.client_settings()` are the settings of librdkafka.

Failure: `Rejected`, with one problem for each key that is missing or invalid. A problem names the key, the
rule, the Secret and the remedy, and never contains a value that may be secret.

Workers read the keys of Kafka and of the ledger; the operator has its own Secret with the same keys and reads
only those of Kafka.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from postroom.letter.problems import Code, Problem, Rejected

SERVERS = "kafka-bootstrap-servers"
PROTOCOL = "kafka-security-protocol"
MECHANISM = "kafka-sasl-mechanism"
USERNAME = "kafka-username"
PASSWORD = "kafka-password"
CA = "kafka-ca.crt"
CERTIFICATE = "kafka-tls.crt"
KEY = "kafka-tls.key"
LEDGER_URL = "ledger-url"
LEDGER_SCHEMA = "ledger-schema"
KEYS = (SERVERS, PROTOCOL, MECHANISM, USERNAME, PASSWORD, CA, CERTIFICATE, KEY, LEDGER_URL, LEDGER_SCHEMA)

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
SERVER = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
LONGEST = 63
"""The maximum length of a PostgreSQL identifier in bytes."""
SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
"""Identifiers that PostgreSQL accepts without quotes."""


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """The brokers, and how the client authenticates."""

    bootstrap_servers: str
    protocol: str = "PLAINTEXT"
    mechanism: str = ""
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    """None: the authorities of the system."""
    certificate_file: Path | None = None
    key_file: Path | None = None
    creates_topics: bool = False
    """Whether the broker may create topics automatically: with `postroom up` yes; in a cluster the operator
    creates topics from the profiles."""

    def client_settings(self) -> dict[str, Any]:
        """The connection settings of every client. They contain the password; never log them."""
        settings: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": self.protocol,
            "sasl.mechanism": self.mechanism,
            "sasl.username": self.username,
            "sasl.password": self.password,
            "ssl.ca.location": str(self.ca_file or ""),
            "ssl.certificate.location": str(self.certificate_file or ""),
            "ssl.key.location": str(self.key_file or ""),
        }
        return {name: value for name, value in settings.items() if value}


@dataclass(frozen=True, slots=True)
class LedgerAddress:
    """The PostgreSQL database of the ledger and its schema."""

    url: str = field(repr=False)
    schema: str


@dataclass(frozen=True, slots=True)
class Connections:
    """The connections of a worker, except its relays."""

    kafka: KafkaConnection
    ledger: LedgerAddress


@dataclass(frozen=True, slots=True)
class ConnectionsSecret:
    """A mounted Secret: its texts by key, the folder of its files, and its name in messages."""

    texts: Mapping[str, str] = field(repr=False)
    folder: Path
    secret: str
    """For example `Secret shop/postroom-connections`."""

    def text(self, key: str) -> str:
        """The text of a key without surrounding whitespace; empty when the key is missing."""
        return self.texts.get(key, "").strip()

    def file(self, key: str) -> Path | None:
        """The file of a key; None when the key is missing or empty."""
        return self.folder / key if self.text(key) else None


def read_connections(secret: ConnectionsSecret, namespace: str) -> Connections:
    """Read the Secret of a worker; raises Rejected with all its problems."""
    _require_keys(secret, SERVERS, LEDGER_URL)
    if problems := [*_kafka_problems(secret), *_ledger_problems(secret)]:
        raise Rejected(*problems)
    return Connections(_kafka(secret), _ledger(secret, namespace))


def read_kafka(secret: ConnectionsSecret) -> KafkaConnection:
    """Read the keys of Kafka; raises Rejected."""
    _require_keys(secret, SERVERS)
    if problems := [*_kafka_problems(secret)]:
        raise Rejected(*problems)
    return _kafka(secret)


def read_ledger(secret: ConnectionsSecret, namespace: str) -> LedgerAddress:
    """Read the keys of the ledger; raises Rejected."""
    _require_keys(secret, LEDGER_URL)
    if problems := [*_ledger_problems(secret)]:
        raise Rejected(*problems)
    return _ledger(secret, namespace)


def default_schema(namespace: str) -> str:
    """The schema of a namespace when the Secret has none; a name over the limit is shortened with a hash."""
    name = f"postroom_{namespace.replace('-', '_')}"
    if len(name) <= LONGEST:
        return name
    digest = blake2b(namespace.encode(), digest_size=4).hexdigest()
    return f"{name[: LONGEST - len(digest) - 1]}_{digest}"


def _require_keys(secret: ConnectionsSecret, *keys: str) -> None:
    if not any(map(secret.text, secret.texts)):
        message = f"is not there, or is empty. Create it with the keys {', '.join(keys)}"
        raise Rejected(Problem(Code.SECRET_MISSING, secret.secret, message))


def _kafka(secret: ConnectionsSecret) -> KafkaConnection:
    protocol = secret.text(PROTOCOL) or "PLAINTEXT"
    return KafkaConnection(
        bootstrap_servers=",".join(_servers(secret)),
        protocol=protocol,
        mechanism=secret.text(MECHANISM),
        username=secret.text(USERNAME),
        password=secret.texts.get(PASSWORD, "").rstrip("\r\n"),
        ca_file=secret.file(CA),
        certificate_file=secret.file(CERTIFICATE),
        key_file=secret.file(KEY),
    )


def _servers(secret: ConnectionsSecret) -> list[str]:
    return [server.strip() for server in secret.text(SERVERS).split(",") if server.strip()]


def _kafka_problems(secret: ConnectionsSecret) -> Iterator[Problem]:
    servers, protocol = _servers(secret), secret.text(PROTOCOL) or "PLAINTEXT"
    if not servers:
        yield _missing(secret, SERVERS, "Set it to the brokers, as host:port,host:port")
    for number, server in enumerate(servers, 1):
        if not SERVER.fullmatch(server):
            message = f"entry {number} is not host:port. Write them as host:port,host:port"
            yield _invalid(secret, SERVERS, message)
    if protocol not in PROTOCOLS:
        yield _invalid(secret, PROTOCOL, f"is none of {', '.join(PROTOCOLS)}. Write one of them")
        return
    yield from _sasl_problems(secret, protocol)
    yield from _tls_problems(secret, protocol)


def _sasl_problems(secret: ConnectionsSecret, protocol: str) -> Iterator[Problem]:
    keys = (MECHANISM, USERNAME, PASSWORD)
    if not protocol.startswith("SASL_"):
        yield from _unused(secret, keys, f"has no effect with {PROTOCOL} {protocol}", "SASL_SSL")
        return
    for key in keys:
        if not secret.text(key):
            yield _missing(secret, key, f"{PROTOCOL} {protocol} requires it. Add the key")
    mechanism = secret.text(MECHANISM)
    if mechanism and mechanism not in MECHANISMS:
        yield _invalid(secret, MECHANISM, f"is none of {', '.join(MECHANISMS)}. Write one of them")


def _tls_problems(secret: ConnectionsSecret, protocol: str) -> Iterator[Problem]:
    if not protocol.endswith("SSL"):
        rule = f"has no effect with {PROTOCOL} {protocol}, which is not encrypted"
        yield from _unused(secret, (CA, CERTIFICATE, KEY), rule, "SSL or SASL_SSL")
        return
    for key, other in ((CERTIFICATE, KEY), (KEY, CERTIFICATE)):
        if secret.text(other) and not secret.text(key):
            yield _missing(secret, key, f"{other} requires it. Add the key, or remove {other}")
    for key in (CA, CERTIFICATE, KEY):
        if secret.text(key) and not secret.text(key).startswith("-----BEGIN "):
            yield _invalid(secret, key, "is not PEM: it does not begin with -----BEGIN. Write it as PEM")


def _unused(secret: ConnectionsSecret, keys: tuple[str, ...], rule: str, protocols: str) -> Iterator[Problem]:
    """Reject unused keys instead of ignoring them: their author expects a protected connection."""
    for key in keys:
        if secret.text(key):
            yield _invalid(secret, key, f"{rule}. Remove it, or set {PROTOCOL} to {protocols}")


def _ledger(secret: ConnectionsSecret, namespace: str) -> LedgerAddress:
    return LedgerAddress(secret.text(LEDGER_URL), secret.text(LEDGER_SCHEMA) or default_schema(namespace))


def _ledger_problems(secret: ConnectionsSecret) -> Iterator[Problem]:
    url, schema = secret.text(LEDGER_URL), secret.text(LEDGER_SCHEMA)
    form = "postgresql://user:password@host:5432/database"
    if not url:
        yield _missing(secret, LEDGER_URL, f"Set it to the database of the ledger, as {form}")
    elif error := _url_error(url):
        yield _invalid(secret, LEDGER_URL, f"{error}. Write {form}")
    if schema and not SCHEMA.fullmatch(schema):
        rule = "at most 63 lower-case letters, digits and _, not beginning with a digit"
        yield _invalid(secret, LEDGER_SCHEMA, f"is not a valid schema name: {rule}. Choose another name")


def _url_error(url: str) -> str:
    """The error of a ledger URL, without the URL, which contains a password."""
    try:
        parts: SplitResult = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return (
            "is not a valid URL: its host or port cannot be read (percent-encode / ? # @ : in the password)"
        )
    if parts.scheme not in {"postgresql", "postgres"}:
        return "does not begin with postgresql://"
    if not host:
        return "has no host"
    if not parts.path.strip("/"):
        return "has no database"
    return ""


def _missing(secret: ConnectionsSecret, key: str, remedy: str) -> Problem:
    return Problem(Code.SECRET_KEY_MISSING, key, f"is not in {secret.secret}. {remedy}")


def _invalid(secret: ConnectionsSecret, key: str, message: str) -> Problem:
    return Problem(Code.SECRET_INVALID, key, f"of {secret.secret}: {message}")
