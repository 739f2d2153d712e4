"""Locate brokers, topics, sandbox and ledgers: of a local run, or of a profile in a worker's pod.

Input: `Options` from the command line and the environment. Output: an `Environment` whose properties are read
on first use, and open ledgers. On a developer's machine the data folder of `postroom up` has all of it; in a
worker's pod the connections Secret and the mounted profile have it. Failure: `UserError` that names the
missing option; `open_ledgers` raises it before any ledger is changed.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from postroom.adapters.ledger.administration import LedgerAdministration
from postroom.connections import KafkaConnection, read_kafka, read_ledger
from postroom.letter.problems import Rejected
from postroom.letter.profile import SmtpProfile, topic_of
from postroom.local.data_folder import DataFolder, RunAddresses
from postroom.local.errors import UserError
from postroom.local.letters import read_connections_secret
from postroom.ports.world import LedgerUnavailable
from postroom.worker.profile_config import read_profile


@dataclass(frozen=True, slots=True)
class Options:
    """The options that locate brokers, topics and files; a worker's pod has them in its environment."""

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
        """The topic of its events."""
        return topic_of(self.profile)


@dataclass(frozen=True)
class Environment:
    """The environment of a command; each property is read on first use."""

    options: Options

    @cached_property
    def running(self) -> RunAddresses | None:
        """The addresses of the `postroom up` on the data folder, if it runs."""
        return DataFolder(self.options.data).addresses()

    @cached_property
    def kafka(self) -> KafkaConnection:
        """The brokers; raises UserError."""
        options = self.options
        if options.bootstrap_servers:
            return KafkaConnection(options.bootstrap_servers)
        if options.connections:
            return read_kafka(read_connections_secret(options.connections))
        if self.running:
            return KafkaConnection(self.running.bootstrap_servers)
        raise UserError(
            f"No `postroom up` runs on the data folder {options.data}, and no broker is configured.",
            "Start `postroom up` in another terminal, or name brokers: --bootstrap-servers HOST:PORT",
        )

    @cached_property
    def profiles(self) -> Sequence[ProfileBundle]:
        """The profiles of the pod or of the data folder; empty when there is none."""
        if self.options.profile and self.options.bundles:
            return [ProfileBundle(read_profile(self.options.profile), self.options.bundles)]
        files = sorted(DataFolder(self.options.data).bundles.glob("*/profile.yaml"))
        return [ProfileBundle(read_profile(file), file.parent) for file in files]

    @property
    def topics(self) -> list[str]:
        """The topics of events; raises UserError."""
        found = [self.options.topic] if self.options.topic else [bundle.topic for bundle in self.profiles]
        if not found:
            raise UserError(
                "No profile is configured, so the topic is unknown.", "Name the profile's topic: --topic NAME"
            )
        return found

    @property
    def sandbox(self) -> str:
        """The sandbox's mail server as host:port; raises UserError."""
        found = self.options.sandbox or (self.running.smtp if self.running else None)
        if not found:
            raise UserError("The sandbox's address is unknown.", "Name its mail server: --sandbox HOST:PORT")
        return found


@contextmanager
def open_ledgers(
    data: Path, files: Sequence[Path], connections: Path | None, namespace: str
) -> Iterator[Sequence[LedgerAdministration]]:
    """Open all selected ledgers; raises UserError."""
    with ExitStack() as stack:
        try:
            yield [
                stack.enter_context(closing(ledger))
                for ledger in _selected_ledgers(data, files, connections, namespace)
            ]
        except Rejected as rejected:
            raise UserError(str(rejected)) from None
        except LedgerUnavailable as unreachable:
            raise UserError(f"The ledger's server does not answer: {unreachable}.") from None


def _selected_ledgers(
    data: Path, files: Sequence[Path], connections: Path | None, namespace: str
) -> Iterator[LedgerAdministration]:
    if connections and not files:
        location = read_ledger(read_connections_secret(connections), namespace)
        yield LedgerAdministration.open_server(location.url, location.schema)
        return
    found = list(files) or DataFolder(data).ledgers()
    if not found:
        raise UserError(
            f"There is no ledger in {data}.",
            "Set the data folder of `postroom up` with --data, a file with --ledger, or --connections.",
        )
    for path in found:
        if not path.exists():
            raise UserError(f"The ledger {path} does not exist.")
        yield LedgerAdministration.open_file(path)
