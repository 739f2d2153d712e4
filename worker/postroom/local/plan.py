"""The options of `postroom up`, and what follows from them: ports, programs, topics, commands to copy.

Input: `UpOptions`, the data folder, and which ports are free. Output: `ChildProgram`s to supervise and
`TopicSpec`s to create; command lines that work when a person copies them. This is the only module that knows
the environment variables of the worker, the sandbox and the gateway. Failure: `UserError` when a port that
the user named is taken.
"""

import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from postroom.letter.manifest_fields import duration_seconds
from postroom.letter.profile import dead_letter_topic, status_topic, topic_of
from postroom.local.broker import Notify, TopicSpec
from postroom.local.bundles import ServedProfile
from postroom.local.data_folder import DEFAULT_DATA_FOLDER, DataFolder
from postroom.local.errors import UserError
from postroom.local.machine import LOOPBACK, free_port
from postroom.local.supervisor import ChildProgram

DEAD_LETTER_PARTITIONS = 1
CALLBACK_ALLOWLIST = "http://localhost,http://127.0.0.0/8,http://::1"
"""Callback addresses allowed besides public ones: programs that a developer runs on the same machine."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of the programs on 127.0.0.1."""

    broker: int = 9092
    smtp: int = 1025
    inbox: int = 8025
    gateway: int = 8080
    studio: int = 8026


@dataclass(frozen=True, slots=True)
class UpOptions:
    """The options of `postroom up`."""

    manifests: Path
    data: Path
    bootstrap: str | None = None
    deliver: bool = False
    ports: Ports = Ports()
    fixed_ports: frozenset[str] = frozenset()
    """Names of the ports that the user set; they are not replaced by free ones."""
    custom_manifests: bool = True
    """Whether the user named the folder; otherwise it is the folder of the examples."""
    studio: bool = True
    """Whether the template studio is served."""


def choose_ports(options: UpOptions, notify: Notify) -> Ports:
    """Return a free port for each program, the preferred port where it is free.

    Another port is reported with `notify`; raises UserError when a port that the user set is taken.
    """
    embedded = options.bootstrap is None
    taken: set[int] = set()
    chosen: dict[str, int] = {}
    for name in ("broker", "smtp", "inbox", "gateway", *(["studio"] if options.studio else [])):
        preferred = getattr(options.ports, name)
        fixed = name == "broker" and not embedded
        port = preferred if fixed else free_port(preferred, frozenset(taken))
        if port != preferred and preferred and name in options.fixed_ports:
            raise UserError(
                f"Port {preferred} is taken; the {PORT_NAMES[name]} cannot listen on it.",
                f"Set another port with --port-{name}, or omit the option to use any free port.",
            )
        if port != preferred and preferred:
            notify(f"port {preferred} is taken; the {PORT_NAMES[name]} listens on {port}")
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
    """The sandbox: inbox and mail server. `studio` is the address that its pages link to."""
    environment = {
        "POSTROOM_SANDBOX_SMTP": f"{LOOPBACK}:{ports.smtp}",
        "POSTROOM_SANDBOX_HTTP": f"{LOOPBACK}:{ports.inbox}",
        "POSTROOM_SANDBOX_DATABASE": str(folder.sandbox),
        "POSTROOM_SANDBOX_STUDIO": studio,
    }
    return ChildProgram("sandbox", "sandbox", environment, folder.log("sandbox"), folder.inherited_fds)


def gateway_program(folder: DataFolder, ports: Ports, bootstrap: str) -> ChildProgram:
    """The gateway, which takes messages over HTTP."""
    environment = {
        "POSTROOM_GATEWAY_HTTP": f"{LOOPBACK}:{ports.gateway}",
        "POSTROOM_BOOTSTRAP_SERVERS": bootstrap,
        "POSTROOM_BUNDLES": str(folder.bundles),
        "POSTROOM_GATEWAY_LEDGERS": str(folder.path / "ledgers"),
    }
    return ChildProgram("gateway", "gateway", environment, folder.log("gateway"), folder.inherited_fds)


@dataclass(frozen=True, slots=True)
class WorkerEnvironment:
    """The settings that all workers of a run share."""

    folder: DataFolder
    bootstrap: str
    smtp: int
    deliver: bool


def worker_program(profile_dir: str, port: int, shared: WorkerEnvironment) -> ChildProgram:
    """The worker of a profile."""
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


def profile_topics(profile: ServedProfile) -> list[TopicSpec]:
    """The topics of a profile: events, dead letters, and status events when the profile enables them."""
    kafka, name = profile.manifest.spec.kafka, topic_of(profile.manifest)
    retention = int(duration_seconds(kafka.retention) * 1000)
    status = [TopicSpec(status_topic(name), kafka.partitions, retention)] if kafka.status_events else []
    return [
        TopicSpec(name, kafka.partitions, retention),
        TopicSpec(dead_letter_topic(name), DEAD_LETTER_PARTITIONS, retention),
        *status,
    ]


def command_line(*arguments: str, data: Path = DEFAULT_DATA_FOLDER) -> str:
    """Return a `postroom` command line to copy; it names the program as the user called it."""
    data_option = [] if data == DEFAULT_DATA_FOLDER else ["--data", str(data)]
    return f"{_program()} {shlex.join([*arguments, *data_option])}"


def up_command(options: UpOptions) -> str:
    """Return the `up` command for the same manifests, data folder, brokers and ports."""
    arguments = ["up", *([str(options.manifests)] if options.custom_manifests else [])]
    if options.bootstrap:
        arguments += ["--bootstrap-servers", options.bootstrap]
    for name in sorted(options.fixed_ports):
        arguments += [f"--port-{name}", str(getattr(options.ports, name))]
    return command_line(*arguments, data=options.data)


def wrap_command(line: str, width: int) -> str:
    """Wrap a command at `width`; lines end in a backslash, so that a shell reads them as one command."""
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
    """Return the program's name when PATH resolves it to this program, otherwise its path."""
    found = shutil.which(program.name)
    same = found is not None and Path(found).absolute() == program.absolute()
    return program.name if same or program.name == str(program) else shlex.quote(str(program))
