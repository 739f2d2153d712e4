"""Where the desk works: brokers, topics and inbox of a run on this machine, or of a pod's profile.

In: what the command line and the environment say. Out: a Place. On this machine the data folder of
`postroom up` says all of it; in a worker's pod the connections Secret and the mounted profile do. Failure:
`Trouble` with what to name instead.

The ledgers that the desk works on: those of a data folder, files by name, or the one of a Secret.

Failure: `Trouble` when there is none, or when one cannot be used; then nothing was done to any.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from postroom.adapters.ledger.administration import LedgerAdministration
from postroom.connections import ConnectionsSecret, KafkaConnection, read_kafka, read_ledger
from postroom.letter.problems import Rejected
from postroom.letter.profile import SmtpProfile, topic_of
from postroom.local.data_folder import DataFolder, RunAddresses
from postroom.local.errors import UserError
from postroom.ports.world import LedgerUnavailable
from postroom.secret_files import read_folder
from postroom.worker.profile_config import read_profile


@dataclass(frozen=True, slots=True)
class Options:
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
class ProfileBundle:
    """A profile, and the folder of its compiled templates."""

    profile: SmtpProfile
    bundles: Path

    @property
    def topic(self) -> str:
        """Where its events come."""
        return topic_of(self.profile)


@dataclass(frozen=True)
class Environment:
    """Looked up as it is asked for: who lists dead letters needs no inbox."""

    options: Options

    @cached_property
    def running(self) -> RunAddresses | None:
        """Where a `postroom up` on the data folder can be reached."""
        return DataFolder(self.options.data).addresses()

    @cached_property
    def kafka(self) -> KafkaConnection:
        """The brokers; raises Trouble."""
        told = self.options
        if told.bootstrap_servers:
            return KafkaConnection(told.bootstrap_servers)
        if told.connections:
            return read_kafka(read_connections_secret(told.connections))
        if self.running:
            return KafkaConnection(self.running.bootstrap_servers)
        raise UserError(
            f"Nothing runs on the data folder {told.data}, so there is no broker to ask.",
            "Start it with `postroom up` in another terminal, or name brokers: --bootstrap-servers HOST:PORT",
        )

    @cached_property
    def profiles(self) -> Sequence[ProfileBundle]:
        """The profiles here; none where nobody said which."""
        if self.options.profile and self.options.bundles:
            return [ProfileBundle(read_profile(self.options.profile), self.options.bundles)]
        homes = sorted(DataFolder(self.options.data).bundles.glob("*/profile.yaml"))
        return [ProfileBundle(read_profile(home), home.parent) for home in homes]

    @property
    def topics(self) -> list[str]:
        """The topics of events; raises Trouble."""
        found = [self.options.topic] if self.options.topic else [one.topic for one in self.profiles]
        if not found:
            raise UserError("It is not known which topic is meant.", "Name the profile's topic: --topic NAME")
        return found

    @property
    def sandbox(self) -> str:
        """Where the sandbox takes letters, host:port; raises Trouble."""
        found = self.options.sandbox or (self.running.smtp if self.running else None)
        if not found:
            raise UserError(
                "It is not known where the sandbox is.", "Name its mail server: --sandbox HOST:PORT"
            )
        return found


def read_connections_secret(folder: Path) -> ConnectionsSecret:
    """A folder with the connections Secret; raises Trouble."""
    try:
        return ConnectionsSecret(read_folder(folder), folder, f"the Secret mounted at {folder}")
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error}.") from None
    except Rejected as rejected:
        raise UserError(str(rejected)) from None


@contextmanager
def open_ledgers(
    data: Path, files: Sequence[Path], connections: Path | None, namespace: str
) -> Iterator[Sequence[LedgerAdministration]]:
    """Every ledger that is meant, open at once."""
    with ExitStack() as open_:
        try:
            yield [
                open_.enter_context(closing(each))
                for each in _selected_ledgers(data, files, connections, namespace)
            ]
        except Rejected as rejected:
            raise UserError(str(rejected)) from None
        except LedgerUnavailable as unreachable:
            raise UserError(f"The ledger's server does not answer: {unreachable}.") from None


def _selected_ledgers(
    data: Path, files: Sequence[Path], connections: Path | None, namespace: str
) -> Iterator[LedgerAdministration]:
    if connections and not files:
        where = read_ledger(read_connections_secret(connections), namespace)
        yield LedgerAdministration.open_server(where.url, where.schema)
        return
    found = list(files) or DataFolder(data).ledgers()
    if not found:
        raise UserError(
            f"There is no ledger in {data}.",
            "Name the data folder of `postroom up` with --data, a file with --ledger, or --connections.",
        )
    for path in found:
        if not path.exists():
            raise UserError(f"There is no ledger {path}.")
        yield LedgerAdministration.open_file(path)
