"""What a run is made of: which programs, with which settings, on which addresses.

Input: what the user asked for and which ports are free. Output: `Program`s to supervise. The only place
that knows the environment variables of the worker, the sandbox and the gateway.
"""

from dataclasses import dataclass
from pathlib import Path

from postroom.letter.manifest_fields import duration_seconds
from postroom.letter.profile import dead_letter_topic, status_topic, topic_of
from postroom.local.bundles import Stand
from postroom.local.folder import DataFolder
from postroom.local.sockets import LOOPBACK, free_port
from postroom.local.supervise import Program, Tell
from postroom.local.topics import Topic
from postroom.local.trouble import Trouble

DEAD_LETTER_PARTITIONS = 1
OWN_MACHINE = "http://localhost,http://127.0.0.0/8,http://::1"
"""What callbacks may reach here besides the Internet: the programs that their developer runs beside."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where things listen on 127.0.0.1."""

    broker: int = 9092
    smtp: int = 1025
    inbox: int = 8025
    gateway: int = 8080
    studio: int = 8026


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asked `postroom up` for."""

    manifests: Path
    data: Path
    bootstrap: str | None = None
    deliver: bool = False
    ports: Ports = Ports()
    fixed_ports: frozenset[str] = frozenset()
    """Names of the ports that the user chose: another one in their place would not be found."""
    own_manifests: bool = True
    """Whether the user named the folder; without one it is the examples."""
    studio: bool = True
    """Whether the template studio is served."""


def choose_ports(wishes: Wishes, tell: Tell) -> Ports:
    """The wanted ports where they are free, else others, and say so; raises Trouble for a chosen one."""
    wanted, embedded = wishes.ports, wishes.bootstrap is None
    taken: set[int] = set()
    chosen: dict[str, int] = {}
    for name in ("broker", "smtp", "inbox", "gateway", *(["studio"] if wishes.studio else [])):
        wish = getattr(wanted, name)
        port = wish if name == "broker" and not embedded else free_port(wish, frozenset(taken))
        if port != wish and wish and name in wishes.fixed_ports:
            raise Trouble(
                f"Port {wish} is taken, so it cannot be the {_SAID[name]}'s.",
                f"Name another with --port-{name}, or leave it out: then a free one is chosen.",
            )
        if port != wish and wish:
            tell(f"port {wish} is taken; the {_SAID[name]} is on {port}")
        taken.add(port)
        chosen[name] = port
    return Ports(**chosen)


_SAID = {
    "broker": "broker",
    "smtp": "sandbox's mail server",
    "inbox": "inbox",
    "gateway": "gateway",
    "studio": "template studio",
}


def sandbox(folder: DataFolder, ports: Ports, studio: str = "") -> Program:
    """The inbox and its mail server. `studio` is the address that its pages link to."""
    environment = {
        "POSTROOM_SANDBOX_SMTP": f"{LOOPBACK}:{ports.smtp}",
        "POSTROOM_SANDBOX_HTTP": f"{LOOPBACK}:{ports.inbox}",
        "POSTROOM_SANDBOX_DATABASE": str(folder.sandbox),
        "POSTROOM_SANDBOX_STUDIO": studio,
    }
    return Program("sandbox", "sandbox", environment, folder.log("sandbox"), folder.inherited)


def gateway(folder: DataFolder, ports: Ports, bootstrap: str) -> Program:
    """The HTTP intake."""
    environment = {
        "POSTROOM_GATEWAY_HTTP": f"{LOOPBACK}:{ports.gateway}",
        "POSTROOM_BOOTSTRAP_SERVERS": bootstrap,
        "POSTROOM_BUNDLES": str(folder.bundles),
        "POSTROOM_GATEWAY_LEDGERS": str(folder.path / "ledgers"),
    }
    return Program("gateway", "gateway", environment, folder.log("gateway"), folder.inherited)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all workers of a run share."""

    folder: DataFolder
    bootstrap: str
    smtp: int
    deliver: bool


def worker(home: str, port: int, shared: Surroundings) -> Program:
    """One profile's worker."""
    bundle = shared.folder.bundles / home
    environment = {
        "POSTROOM_PROFILE": str(bundle / "profile.yaml"),
        "POSTROOM_FALLBACK": str(bundle / "fallback.yaml"),
        "POSTROOM_BUNDLES": str(bundle),
        "POSTROOM_BOOTSTRAP_SERVERS": shared.bootstrap,
        "POSTROOM_LEDGER": str(shared.folder.ledger(home)),
        "POSTROOM_SANDBOX": f"{LOOPBACK}:{shared.smtp}",
        "POSTROOM_HTTP": f"{LOOPBACK}:{port}",
        "POSTROOM_SECRETS": str(shared.folder.path / "secrets"),
        "POSTROOM_CALLBACK_ALLOW": OWN_MACHINE,
        "POSTROOM_DELIVERY_ALLOWED": str(shared.deliver).lower(),
    }
    log = shared.folder.log(f"worker-{home}")
    return Program(f"worker {home}", "worker", environment, log, shared.folder.inherited)


def topics(stand: Stand) -> list[Topic]:
    """The profile's topic, the one for its dead letters, and the one for status events if they are wanted."""
    kafka, name = stand.profile.spec.kafka, topic_of(stand.profile)
    retention = int(duration_seconds(kafka.retention) * 1000)
    status = [Topic(status_topic(name), kafka.partitions, retention)] if kafka.status_events else []
    return [
        Topic(name, kafka.partitions, retention),
        Topic(dead_letter_topic(name), DEAD_LETTER_PARTITIONS, retention),
        *status,
    ]
