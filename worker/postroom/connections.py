"""How Kafka and the ledger are reached: the keys of the connections Secret, read and judged.

In: the Secret's keys and texts, and the folder it is mounted at, for what Kafka's client reads from files.
Out: frozen values; `KafkaConnection.client_settings()` is what librdkafka is configured with. Failure:
Rejected, with one problem for each key that is missing or breaks its rule. A problem names the key, the rule,
the Secret and the way out, and never shows a value that may be secret.

Workers read both halves; the operator, which has a Secret of its own with the same keys, only Kafka's.
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
"""Bytes of a name in PostgreSQL."""
SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
"""What PostgreSQL takes unquoted."""


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """Where the brokers are and how we show who we are."""

    bootstrap_servers: str
    protocol: str = "PLAINTEXT"
    mechanism: str = ""
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    """None: the authorities that the system trusts."""
    certificate_file: Path | None = None
    key_file: Path | None = None
    creates_topics: bool = False
    """Whether a topic may come to be by asking for it: on one machine yes, in a cluster the operator makes
    them as their profile says."""

    def client_settings(self) -> dict[str, Any]:
        """What every client is configured with to connect; it holds the password, so never print it."""
        told: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": self.protocol,
            "sasl.mechanism": self.mechanism,
            "sasl.username": self.username,
            "sasl.password": self.password,
            "ssl.ca.location": str(self.ca_file or ""),
            "ssl.certificate.location": str(self.certificate_file or ""),
            "ssl.key.location": str(self.key_file or ""),
        }
        return {name: value for name, value in told.items() if value}


@dataclass(frozen=True, slots=True)
class LedgerAddress:
    """The PostgreSQL database of the ledger, and the schema in it."""

    url: str = field(repr=False)
    schema: str


@dataclass(frozen=True, slots=True)
class Connections:
    """All that a worker connects to, but for its relay."""

    kafka: KafkaConnection
    ledger: LedgerAddress


@dataclass(frozen=True, slots=True)
class ConnectionsSecret:
    """A Secret as it is mounted: its texts by key, where its files are, and what to call it in a message."""

    texts: Mapping[str, str] = field(repr=False)
    folder: Path
    secret: str
    """`Secret shop/postroom-connections`."""

    def text(self, key: str) -> str:
        """A key's text without the line end that editors add; empty when it is not there."""
        return self.texts.get(key, "").strip()

    def file(self, key: str) -> Path | None:
        """Where a key is a file; None when it is not there."""
        return self.folder / key if self.text(key) else None


def read_connections(mounted: ConnectionsSecret, namespace: str) -> Connections:
    """Everything of a worker's Secret; raises Rejected with all that is wrong in it."""
    _require_keys(mounted, SERVERS, LEDGER_URL)
    if problems := [*_kafka_problems(mounted), *_ledger_problems(mounted)]:
        raise Rejected(*problems)
    return Connections(_kafka(mounted), _ledger(mounted, namespace))


def read_kafka(mounted: ConnectionsSecret) -> KafkaConnection:
    """Kafka's half alone; raises Rejected."""
    _require_keys(mounted, SERVERS)
    if problems := [*_kafka_problems(mounted)]:
        raise Rejected(*problems)
    return _kafka(mounted)


def read_ledger(mounted: ConnectionsSecret, namespace: str) -> LedgerAddress:
    """The ledger's half alone; raises Rejected."""
    _require_keys(mounted, LEDGER_URL)
    if problems := [*_ledger_problems(mounted)]:
        raise Rejected(*problems)
    return _ledger(mounted, namespace)


def default_schema(namespace: str) -> str:
    """The schema of a namespace whose Secret names none; a name that would be cut gets a hash."""
    name = f"postroom_{namespace.replace('-', '_')}"
    if len(name) <= LONGEST:
        return name
    digest = blake2b(namespace.encode(), digest_size=4).hexdigest()
    return f"{name[: LONGEST - len(digest) - 1]}_{digest}"


def _require_keys(mounted: ConnectionsSecret, *keys: str) -> None:
    if not any(map(mounted.text, mounted.texts)):
        said = f"is not there, or is empty. Create it with the keys {', '.join(keys)}"
        raise Rejected(Problem(Code.SECRET_MISSING, mounted.secret, said))


def _kafka(mounted: ConnectionsSecret) -> KafkaConnection:
    protocol = mounted.text(PROTOCOL) or "PLAINTEXT"
    return KafkaConnection(
        bootstrap_servers=",".join(_servers(mounted)),
        protocol=protocol,
        mechanism=mounted.text(MECHANISM),
        username=mounted.text(USERNAME),
        password=mounted.texts.get(PASSWORD, "").rstrip("\r\n"),
        ca_file=mounted.file(CA),
        certificate_file=mounted.file(CERTIFICATE),
        key_file=mounted.file(KEY),
    )


def _servers(mounted: ConnectionsSecret) -> list[str]:
    return [server.strip() for server in mounted.text(SERVERS).split(",") if server.strip()]


def _kafka_problems(mounted: ConnectionsSecret) -> Iterator[Problem]:
    servers, protocol = _servers(mounted), mounted.text(PROTOCOL) or "PLAINTEXT"
    if not servers:
        yield _missing(mounted, SERVERS, "Write the brokers there, as host:port,host:port")
    for number, server in enumerate(servers, 1):
        if not SERVER.fullmatch(server):
            said = f"entry {number} is not host:port. Write them as host:port,host:port"
            yield _invalid(mounted, SERVERS, said)
    if protocol not in PROTOCOLS:
        yield _invalid(mounted, PROTOCOL, f"is none of {', '.join(PROTOCOLS)}. Write one of them")
        return
    yield from _sasl_problems(mounted, protocol)
    yield from _tls_problems(mounted, protocol)


def _sasl_problems(mounted: ConnectionsSecret, protocol: str) -> Iterator[Problem]:
    keys = (MECHANISM, USERNAME, PASSWORD)
    if not protocol.startswith("SASL_"):
        yield from _unused(mounted, keys, f"is of no use with {PROTOCOL} {protocol}", "SASL_SSL")
        return
    for key in keys:
        if not mounted.text(key):
            yield _missing(mounted, key, f"{PROTOCOL} {protocol} asks for it. Add the key")
    mechanism = mounted.text(MECHANISM)
    if mechanism and mechanism not in MECHANISMS:
        yield _invalid(mounted, MECHANISM, f"is none of {', '.join(MECHANISMS)}. Write one of them")


def _tls_problems(mounted: ConnectionsSecret, protocol: str) -> Iterator[Problem]:
    if not protocol.endswith("SSL"):
        said = f"is of no use with {PROTOCOL} {protocol}, which is not encrypted"
        yield from _unused(mounted, (CA, CERTIFICATE, KEY), said, "SSL or SASL_SSL")
        return
    for key, other in ((CERTIFICATE, KEY), (KEY, CERTIFICATE)):
        if mounted.text(other) and not mounted.text(key):
            yield _missing(mounted, key, f"{other} is there and needs it. Add the key, or remove {other}")
    for key in (CA, CERTIFICATE, KEY):
        if mounted.text(key) and not mounted.text(key).startswith("-----BEGIN "):
            yield _invalid(mounted, key, "is not PEM: it does not begin with -----BEGIN. Write it as PEM")


def _unused(
    mounted: ConnectionsSecret, keys: tuple[str, ...], said: str, protocols: str
) -> Iterator[Problem]:
    """Refused rather than ignored: whoever wrote them believes that the connection is a guarded one."""
    for key in keys:
        if mounted.text(key):
            yield _invalid(mounted, key, f"{said}. Remove it, or set {PROTOCOL} to {protocols}")


def _ledger(mounted: ConnectionsSecret, namespace: str) -> LedgerAddress:
    return LedgerAddress(mounted.text(LEDGER_URL), mounted.text(LEDGER_SCHEMA) or default_schema(namespace))


def _ledger_problems(mounted: ConnectionsSecret) -> Iterator[Problem]:
    url, schema = mounted.text(LEDGER_URL), mounted.text(LEDGER_SCHEMA)
    form = "postgresql://user:password@host:5432/database"
    if not url:
        yield _missing(mounted, LEDGER_URL, f"Write the ledger's database there, as {form}")
    elif fault := _url_error(url):
        yield _invalid(mounted, LEDGER_URL, f"{fault}. Write {form}")
    if schema and not SCHEMA.fullmatch(schema):
        rule = "at most 63 lower-case letters, digits and _, not beginning with a digit"
        yield _invalid(mounted, LEDGER_SCHEMA, f"is not a schema's name: {rule}. Write another")


def _url_error(url: str) -> str:
    """What is wrong with a ledger's URL, without showing it: it holds a password."""
    try:
        parts: SplitResult = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is no URL: its host or port cannot be read (a password's / ? # @ : are written %2F and so on)"
    if parts.scheme not in {"postgresql", "postgres"}:
        return "does not begin with postgresql://"
    if not host:
        return "names no host"
    if not parts.path.strip("/"):
        return "names no database"
    return ""


def _missing(mounted: ConnectionsSecret, key: str, way_out: str) -> Problem:
    return Problem(Code.SECRET_KEY_MISSING, key, f"is not in {mounted.secret}. {way_out}")


def _invalid(mounted: ConnectionsSecret, key: str, said: str) -> Problem:
    return Problem(Code.SECRET_INVALID, key, f"of {mounted.secret}: {said}")
