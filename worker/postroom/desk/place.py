"""Where the desk works: brokers, topics and inbox of a run on this machine, or of a pod's profile.

In: what the command line and the environment say. Out: a Place. On this machine the data folder of
`postroom up` says all of it; in a worker's pod the connections Secret and the mounted profile do. Failure:
`Trouble` with what to name instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from postroom.connections import KafkaConnection, Mounted, read_kafka
from postroom.delivery.programs.rules import read_profile
from postroom.letter.problems import Rejected
from postroom.letter.profile import SmtpProfile, topic_of
from postroom.local.folder import Addresses, DataFolder
from postroom.local.trouble import Trouble
from postroom.mounted import read_folder


@dataclass(frozen=True, slots=True)
class Told:
    """What a person said of where things are; the environment of a pod says the same."""

    data: Path
    bootstrap_servers: str | None = None
    connections: Path | None = None
    namespace: str = ""
    topic: str | None = None
    profile: Path | None = None
    bundles: Path | None = None
    sandbox: str | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """A profile, and the folder of its compiled templates."""

    profile: SmtpProfile
    bundles: Path

    @property
    def topic(self) -> str:
        """Where its events come."""
        return topic_of(self.profile)


@dataclass(frozen=True)
class Place:
    """Looked up as it is asked for: who lists dead letters needs no inbox."""

    told: Told

    @cached_property
    def running(self) -> Addresses | None:
        """Where a `postroom up` on the data folder can be reached."""
        return DataFolder(self.told.data).addresses()

    @cached_property
    def kafka(self) -> KafkaConnection:
        """The brokers; raises Trouble."""
        told = self.told
        if told.bootstrap_servers:
            return KafkaConnection(told.bootstrap_servers)
        if told.connections:
            return read_kafka(mounted(told.connections))
        if self.running:
            return KafkaConnection(self.running.bootstrap_servers)
        raise Trouble(
            f"Nothing runs on the data folder {told.data}, so there is no broker to ask.",
            "Start it with `postroom up` in another terminal, or name brokers: --bootstrap-servers HOST:PORT",
        )

    @cached_property
    def served(self) -> Sequence[Served]:
        """The profiles here; none where nobody said which."""
        if self.told.profile and self.told.bundles:
            return [Served(read_profile(self.told.profile), self.told.bundles)]
        homes = sorted(DataFolder(self.told.data).bundles.glob("*/profile.yaml"))
        return [Served(read_profile(home), home.parent) for home in homes]

    @property
    def topics(self) -> list[str]:
        """The topics of events; raises Trouble."""
        found = [self.told.topic] if self.told.topic else [one.topic for one in self.served]
        if not found:
            raise Trouble("It is not known which topic is meant.", "Name the profile's topic: --topic NAME")
        return found

    @property
    def sandbox(self) -> str:
        """Where the sandbox takes letters, host:port; raises Trouble."""
        found = self.told.sandbox or (self.running.smtp if self.running else None)
        if not found:
            raise Trouble(
                "It is not known where the sandbox is.", "Name its mail server: --sandbox HOST:PORT"
            )
        return found


def mounted(folder: Path) -> Mounted:
    """A folder with the connections Secret; raises Trouble."""
    try:
        return Mounted(read_folder(folder), folder, f"the Secret mounted at {folder}")
    except OSError as error:
        raise Trouble(f"{folder} cannot be read: {error}.") from None
    except Rejected as rejected:
        raise Trouble(str(rejected)) from None
