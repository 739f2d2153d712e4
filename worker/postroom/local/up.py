"""`postroom up`: all programs on one machine. READ FIRST: `LocalRun.validate`, then `LocalRun.start`.

Input: `UpOptions`. Output: a running broker, sandbox, gateway and one worker for each profile; their
addresses are in up.json. A program that exits is restarted. A changed template reaches the running workers
without a restart; a changed profile restarts its worker; a new profile gets topics and a worker. `stop` ends
the gateway first, so that no new message enters, then the workers, which finish their letters, then sandbox
and broker. Failure: `UserError`.
"""

import asyncio
import os
from collections.abc import Iterable

from postroom.letter.profile import SmtpProfile
from postroom.letter.template import EmailTemplate
from postroom.letter.validation.validate import TemplateValidation
from postroom.local import http_client, plan
from postroom.local.broker import BrokerConfig, LocalBroker, Notify, create_topics, wait_for_broker
from postroom.local.bundles import ServedProfile, write_bundles
from postroom.local.data_folder import DataFolder, RunAddresses
from postroom.local.errors import UserError
from postroom.local.machine import LOOPBACK, free_port
from postroom.local.manifests import FolderReader, ManifestSet, require_manifests
from postroom.local.plan import UpOptions
from postroom.local.studio.pages import StudioContext
from postroom.local.studio.sending import Sender
from postroom.local.studio.server import StudioServer
from postroom.local.studio.state import Studio
from postroom.local.supervisor import BrokerSupervisor, ChildProgram, ProgramSupervisor

READY_SECONDS = 60.0
"""Time limit for the programs to become ready."""
READY_POLL_SECONDS = 0.1


class LocalRun:
    """One run of `postroom up` on one data folder."""

    def __init__(self, options: UpOptions, notify: Notify) -> None:
        self.options = options
        self.folder = DataFolder(options.data.absolute())
        self.manifest_set = ManifestSet()
        self.reader = FolderReader(options.manifests)
        self.studio = Studio()
        self.served: list[ServedProfile] = []
        self.ports = options.ports
        self.broker: BrokerSupervisor | None = None
        self.supervisors: dict[str, ProgramSupervisor] = {}
        """By name: `sandbox`, `gateway`, `worker <profile>`."""
        self.on_progress: Notify = _ignore
        """Receives lines about the progress of `start`."""
        self._notify = notify
        self._worker_ports: dict[str, int] = {}
        self._studio_server: StudioServer | None = None

    @property
    def bootstrap(self) -> str:
        """The brokers' addresses."""
        return self.options.bootstrap or (self.broker.bootstrap if self.broker else "")

    @property
    def inbox(self) -> str:
        """The address of the inbox."""
        return f"http://{LOOPBACK}:{self.ports.inbox}"

    @property
    def gateway(self) -> str:
        """The address of the gateway."""
        return f"http://{LOOPBACK}:{self.ports.gateway}"

    @property
    def studio_address(self) -> str:
        """The address of the template studio; empty when it is not served."""
        return f"http://{LOOPBACK}:{self.ports.studio}" if self.options.studio else ""

    def worker_address(self, profile_dir: str) -> str:
        """The address of a worker's status pages."""
        return f"http://{LOOPBACK}:{self._worker_ports[profile_dir]}"

    async def validate(self) -> ManifestSet:
        """Read and validate the manifests before any program starts; raises UserError."""
        self.on_progress(f"validating {self.options.manifests}")
        self.manifest_set = await asyncio.to_thread(self.reader.read)
        require_manifests(self.manifest_set, self.options.manifests)
        self.studio.update(self.manifest_set)
        return self.manifest_set

    async def reread(self) -> ManifestSet:
        """Validate what has changed, and show it in the studio before workers serve it; raises UserError."""
        loop = asyncio.get_running_loop()

        def show(template: EmailTemplate, result: TemplateValidation) -> None:
            loop.call_soon_threadsafe(self.studio.update_one, template, result)

        manifest_set = await asyncio.to_thread(self.reader.read, self.studio.viewed, show)
        self.studio.update(manifest_set)
        return manifest_set

    async def start(self) -> None:
        """Start all programs; on failure stop those that were started. Raises UserError."""
        await asyncio.to_thread(self.folder.acquire, self._notify)
        try:
            self.ports = plan.choose_ports(self.options, self._notify)
            self._start_studio()
            await self._start_broker()
            self._start(plan.sandbox_program(self.folder, self.ports, self.studio_address))
            await self.apply(self.manifest_set)
            self._start(plan.gateway_program(self.folder, self.ports, self.bootstrap))
            await self._wait_until_ready()
        except BaseException:
            await self.stop()
            raise

    async def apply(self, manifest_set: ManifestSet) -> None:
        """Write the bundles, create topics, and start, stop or restart workers to match the manifests."""
        self.manifest_set = manifest_set
        before = {profile.profile_dir: profile for profile in self.served}
        self.served = await asyncio.to_thread(
            write_bundles, self.folder.bundles, manifest_set.validation, complete=manifest_set.complete
        )
        wanted = [topic for profile in self.served for topic in plan.profile_topics(profile)]
        for name in await asyncio.to_thread(create_topics, self.bootstrap, wanted):
            self._notify(f"topic {name} created")
        self.studio.hold(
            template
            for profile in self.served
            for template in profile.templates
            if template.name in profile.held_back
        )
        now = {profile.profile_dir: profile for profile in self.served}
        for profile_dir, profile in now.items():
            if (
                profile_dir not in before
                or before[profile_dir].manifest.spec.mode != profile.manifest.spec.mode
            ):
                self._notify_mode(profile)
        gone = [profile_dir for profile_dir in before if profile_dir not in now]
        changed = [
            profile_dir
            for profile_dir in before.keys() & now.keys()
            if _worker_inputs(before[profile_dir]) != _worker_inputs(now[profile_dir])
        ]
        await self._stop(f"worker {profile_dir}" for profile_dir in [*gone, *changed])
        for profile_dir in now:
            if f"worker {profile_dir}" not in self.supervisors:
                self._start(self._worker(profile_dir))
        self._write_addresses()

    def _notify_mode(self, profile: ServedProfile) -> None:
        """Report where the letters of a profile in mode SMTP go."""
        if profile.manifest.spec.mode != "SMTP":
            return
        relay = profile.manifest.spec.smtp.host if profile.manifest.spec.smtp else "its relay"
        if self.options.deliver:
            self._notify(f"profile {profile.profile_dir} sends to {relay}: letters reach real recipients")
        else:
            self._notify(
                f"profile {profile.profile_dir} (mode SMTP) goes to the inbox; --deliver sends to {relay}"
            )

    async def stop(self) -> None:
        """Stop all programs in order; may be called in any state."""
        if self._studio_server is not None:
            await self._studio_server.stop()
        await self._stop(["gateway"])
        await self._stop([name for name in self.supervisors if name.startswith("worker ")])
        await self._stop(["sandbox"])
        if self.broker is not None:
            await self.broker.stop()
        self.folder.remove_addresses()
        self.folder.release()

    def _start_studio(self) -> None:
        if self.options.studio:
            sender = Sender(
                self.gateway, self.inbox, self.folder, lambda: self.served, deliver=self.options.deliver
            )
            context = StudioContext(self.studio, sender, self.options.manifests, self.options.data)
            self._studio_server = StudioServer(context, self.ports.studio)
            self._studio_server.start()

    async def _start_broker(self) -> None:
        if self.options.bootstrap is not None:
            self.on_progress(f"waiting for Kafka at {self.options.bootstrap}")
            await asyncio.to_thread(wait_for_broker, self.options.bootstrap)
            return
        self.on_progress("starting the broker")
        config = BrokerConfig(self.folder.log("broker"), self.folder.inherited_fds, self.on_progress)
        broker = LocalBroker(self.folder.broker, self.ports.broker, fsync=True, config=config)
        self.broker = BrokerSupervisor(broker, self._notify)
        await self.broker.start()

    def _worker(self, profile_dir: str) -> ChildProgram:
        # never a fixed port: of two runs that start together, each could take the other's worker for its own
        self._worker_ports.setdefault(profile_dir, free_port())
        shared = plan.WorkerEnvironment(self.folder, self.bootstrap, self.ports.smtp, self.options.deliver)
        return plan.worker_program(profile_dir, self._worker_ports[profile_dir], shared)

    def _start(self, program: ChildProgram) -> None:
        supervisor = ProgramSupervisor(program, self._notify)
        self.supervisors[program.name] = supervisor
        supervisor.supervise()

    async def _stop(self, names: Iterable[str]) -> None:
        stopping = [found for name in list(names) if (found := self.supervisors.pop(name, None))]
        await asyncio.gather(*(supervisor.stop() for supervisor in stopping))

    async def _wait_until_ready(self) -> None:
        """Wait until every program is ready (/readyz returns 2xx); raises UserError after `READY_SECONDS`."""
        addresses = {"sandbox": self.inbox, "gateway": self.gateway}
        addresses |= {
            f"worker {profile.profile_dir}": self.worker_address(profile.profile_dir)
            for profile in self.served
        }
        if not self.served:
            del addresses["gateway"]  # without a template it is not ready
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        while addresses:
            self.on_progress(f"waiting for {', '.join(addresses)}")
            for name, address in list(addresses.items()):
                if (reason := await asyncio.to_thread(_unready_reason, address)) is None:
                    del addresses[name]
                elif asyncio.get_running_loop().time() > deadline:
                    log = self.supervisors[name].program.log
                    raise UserError(
                        f"The {name} is not ready after {READY_SECONDS:.0f} s: {reason}", f"See {log}"
                    )
            await asyncio.sleep(READY_POLL_SECONDS)

    def _write_addresses(self) -> None:
        self.folder.write_addresses(
            RunAddresses(
                pid=os.getpid(),
                bootstrap_servers=self.bootstrap,
                gateway=self.gateway,
                inbox=self.inbox,
                smtp=f"{LOOPBACK}:{self.ports.smtp}",
                manifests=str(self.options.manifests.absolute()),
                studio=self.studio_address,
                workers={
                    profile.profile_dir: self.worker_address(profile.profile_dir) for profile in self.served
                },
            )
        )


def _ignore(_: str) -> None:
    """Drop a line of progress."""


def _unready_reason(address: str) -> str | None:
    """Return why the program at an address is not ready, or None when it is."""
    try:
        answer = http_client.get(f"{address}/readyz", timeout=2)
    except http_client.RequestFailed:
        return "it does not answer"
    if answer.ok:
        return None
    problems = answer.body.get("problems") if isinstance(answer.body, dict) else None
    return ", ".join(problems) if problems else answer.detail


def _worker_inputs(profile: ServedProfile) -> tuple[SmtpProfile, SmtpProfile | None]:
    """Return the profiles that a worker reads only at its start."""
    return profile.manifest, profile.fallback
