"""What a run is made of: which programs, with which settings, on which addresses.

Input: what the user asked for and which ports are free. Output: `Program`s to supervise. The only place
that knows the environment variables of the worker, the sandbox and the gateway.

Commands that are shown, written so that they work when they are copied.

Input: the words of a command of ours. Output: one line, with the program as the user called it and what
has to be said again: a data folder that is not the default one, manifests of one's own.
"""

import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from postroom.letter.manifest_fields import duration_seconds
from postroom.letter.profile import dead_letter_topic, status_topic, topic_of
from postroom.local.broker import TopicSpec
from postroom.local.bundles import ServedProfile
from postroom.local.data_folder import DEFAULT_DATA_FOLDER, DataFolder
from postroom.local.errors import UserError
from postroom.local.machine import LOOPBACK, free_port
from postroom.local.supervisor import ChildProgram, Notify

DEAD_LETTER_PARTITIONS = 1
CALLBACK_ALLOWLIST = "http://localhost,http://127.0.0.0/8,http://::1"
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
class UpOptions:
    """What the user asked `postroom up` for."""

    manifests: Path
    data: Path
    bootstrap: str | None = None
    deliver: bool = False
    ports: Ports = Ports()
    fixed_ports: frozenset[str] = frozenset()
    """Names of the ports that the user chose: another one in their place would not be found."""
    custom_manifests: bool = True
    """Whether the user named the folder; without one it is the examples."""
    studio: bool = True
    """Whether the template studio is served."""


def choose_ports(options: UpOptions, notify: Notify) -> Ports:
    """The wanted ports where they are free, else others, and say so; raises Trouble for a chosen one."""
    wanted, embedded = options.ports, options.bootstrap is None
    taken: set[int] = set()
    chosen: dict[str, int] = {}
    for name in ("broker", "smtp", "inbox", "gateway", *(["studio"] if options.studio else [])):
        wish = getattr(wanted, name)
        port = wish if name == "broker" and not embedded else free_port(wish, frozenset(taken))
        if port != wish and wish and name in options.fixed_ports:
            raise UserError(
                f"Port {wish} is taken, so it cannot be the {PORT_NAMES[name]}'s.",
                f"Name another with --port-{name}, or leave it out: then a free one is chosen.",
            )
        if port != wish and wish:
            notify(f"port {wish} is taken; the {PORT_NAMES[name]} is on {port}")
        taken.add(port)
        chosen[name] = port
    return Ports(**chosen)


PORT_NAMES = {
    "broker": "broker",
    "smtp": "sandbox's mail server",
    "inbox": "inbox",
    "gateway": "gateway",
    "studio": "template studio",
}


def sandbox_program(folder: DataFolder, ports: Ports, studio: str = "") -> ChildProgram:
    """The inbox and its mail server. `studio` is the address that its pages link to."""
    environment = {
        "POSTROOM_SANDBOX_SMTP": f"{LOOPBACK}:{ports.smtp}",
        "POSTROOM_SANDBOX_HTTP": f"{LOOPBACK}:{ports.inbox}",
        "POSTROOM_SANDBOX_DATABASE": str(folder.sandbox),
        "POSTROOM_SANDBOX_STUDIO": studio,
    }
    return ChildProgram("sandbox", "sandbox", environment, folder.log("sandbox"), folder.inherited_fds)


def gateway_program(folder: DataFolder, ports: Ports, bootstrap: str) -> ChildProgram:
    """The HTTP intake."""
    environment = {
        "POSTROOM_GATEWAY_HTTP": f"{LOOPBACK}:{ports.gateway}",
        "POSTROOM_BOOTSTRAP_SERVERS": bootstrap,
        "POSTROOM_BUNDLES": str(folder.bundles),
        "POSTROOM_GATEWAY_LEDGERS": str(folder.path / "ledgers"),
    }
    return ChildProgram("gateway", "gateway", environment, folder.log("gateway"), folder.inherited_fds)


@dataclass(frozen=True, slots=True)
class WorkerEnvironment:
    """What all workers of a run share."""

    folder: DataFolder
    bootstrap: str
    smtp: int
    deliver: bool


def worker_program(profile_dir: str, port: int, shared: WorkerEnvironment) -> ChildProgram:
    """One profile's worker."""
    bundle = shared.folder.bundles / profile_dir
    environment = {
        "POSTROOM_PROFILE": str(bundle / "profile.yaml"),
        "POSTROOM_FALLBACK": str(bundle / "fallback.yaml"),
        "POSTROOM_BUNDLES": str(bundle),
        "POSTROOM_BOOTSTRAP_SERVERS": shared.bootstrap,
        "POSTROOM_LEDGER": str(shared.folder.ledger(profile_dir)),
        "POSTROOM_SANDBOX": f"{LOOPBACK}:{shared.smtp}",
        "POSTROOM_HTTP": f"{LOOPBACK}:{port}",
        "POSTROOM_SECRETS": str(shared.folder.path / "secrets"),
        "POSTROOM_CALLBACK_ALLOW": CALLBACK_ALLOWLIST,
        "POSTROOM_DELIVERY_ALLOWED": str(shared.deliver).lower(),
    }
    log = shared.folder.log(f"worker-{profile_dir}")
    return ChildProgram(f"worker {profile_dir}", "worker", environment, log, shared.folder.inherited_fds)


def profile_topics(stand: ServedProfile) -> list[TopicSpec]:
    """The profile's topic, the one for its dead letters, and the one for status events if they are wanted."""
    kafka, name = stand.profile.spec.kafka, topic_of(stand.profile)
    retention = int(duration_seconds(kafka.retention) * 1000)
    status = [TopicSpec(status_topic(name), kafka.partitions, retention)] if kafka.status_events else []
    return [
        TopicSpec(name, kafka.partitions, retention),
        TopicSpec(dead_letter_topic(name), DEAD_LETTER_PARTITIONS, retention),
        *status,
    ]


def command_line(*words: str, data: Path = DEFAULT_DATA_FOLDER) -> str:
    """A command line that works where this one worked."""
    told = [] if data == DEFAULT_DATA_FOLDER else ["--data", str(data)]
    return f"{_program()} {shlex.join([*words, *told])}"


def up_command(options: UpOptions) -> str:
    """The `up` that serves the same manifests from the same data folder, in the same places."""
    words = ["up", *([str(options.manifests)] if options.custom_manifests else [])]
    if options.bootstrap:
        words += ["--bootstrap-servers", options.bootstrap]
    for name in sorted(options.fixed_ports):
        words += [f"--port-{name}", str(getattr(options.ports, name))]
    return command_line(*words, data=options.data)


def wrap_command(line: str, width: int) -> str:
    """A command over several lines, each but the last ended by a backslash: a shell reads it whole."""
    lines = [""]
    for word in map(shlex.quote, shlex.split(line)):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and len(longer) + len(" \\") > width:
            lines.append(f"  {word}")
        else:
            lines[-1] = longer
    return " \\\n".join(lines)


def _program() -> str:
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{_shortest(Path(sys.executable))} -m postroom"
    return _shortest(called) if called.name == "postroom" else "postroom"


def _shortest(program: Path) -> str:
    """The bare name where the PATH leads to the very program, else the way to it."""
    found = shutil.which(program.name)
    same = found is not None and Path(found).absolute() == program.absolute()
    return program.name if same or program.name == str(program) else shlex.quote(str(program))
