"""`postroom up`: everything on one machine. READ FIRST: `Run.prove` and `Run.start`, how it comes to life.

Input: `Wishes`. Output: a running post room, whose addresses are in `addresses` and in up.json. Programs that
end are started again; a changed manifest reaches the running workers without a restart, a changed profile
restarts its own worker, a new one gets a topic and a worker. `stop` ends it in order: the gateway first, so
that nothing new comes in, then the workers, which drain, then the sandbox and the broker. Failure: `Trouble`.
"""

import asyncio
import os
from collections.abc import Iterable

from postroom.letter.profile import SmtpProfile
from postroom.letter.template import EmailTemplate
from postroom.letter.validation.validate import TemplateValidation
from postroom.local import client, plan
from postroom.local.broker import LocalBroker, Surroundings
from postroom.local.bundles import Stand, publish
from postroom.local.folder import Addresses, DataFolder
from postroom.local.keeper import BrokerKeeper
from postroom.local.manifests import FolderReader, Reading, demand_manifests
from postroom.local.plan import Wishes
from postroom.local.sockets import LOOPBACK, free_port
from postroom.local.studio.pages import StudioContext
from postroom.local.studio.sending import Sender
from postroom.local.studio.server import StudioServer
from postroom.local.studio.state import Studio
from postroom.local.supervise import Child, Program, Tell
from postroom.local.topics import await_broker, create_topics
from postroom.local.trouble import Trouble

READY_SECONDS = 60.0
"""How long the programs may take until they answer."""
LOOK_SECONDS = 0.1


class Run:
    """One run of `postroom up` on one data folder."""

    def __init__(self, wishes: Wishes, tell: Tell) -> None:
        self.wishes = wishes
        self.folder = DataFolder(wishes.data.absolute())
        self.reading = Reading()
        self.reader = FolderReader(wishes.manifests)
        self.studio = Studio()
        self.stands: list[Stand] = []
        self.ports = wishes.ports
        self.broker: BrokerKeeper | None = None
        self.children: dict[str, Child] = {}
        """By name: `sandbox`, `gateway`, `worker <profile>`."""
        self.stage: Tell = _quiet
        """Hears what `start` is doing, for somebody who waits."""
        self._tell = tell
        self._worker_ports: dict[str, int] = {}
        self._studio_server: StudioServer | None = None

    @property
    def bootstrap(self) -> str:
        """The brokers' addresses."""
        return self.wishes.bootstrap or (self.broker.bootstrap if self.broker else "")

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
        """The address of the template studio; empty where it is not served."""
        return f"http://{LOOPBACK}:{self.ports.studio}" if self.wishes.studio else ""

    def worker_address(self, home: str) -> str:
        """Where a worker's status pages are."""
        return f"http://{LOOPBACK}:{self._worker_ports[home]}"

    async def prove(self) -> Reading:
        """Read and prove the manifests, before anything is started; raises Trouble."""
        self.stage(f"proving {self.wishes.manifests}")
        self.reading = await asyncio.to_thread(self.reader.read)
        demand_manifests(self.reading, self.wishes.manifests)
        self.studio.update(self.reading)
        return self.reading

    async def read_again(self) -> Reading:
        """Read and prove what has changed, and show it in the studio before it is served; raises Trouble."""
        loop = asyncio.get_running_loop()

        def show(template: EmailTemplate, proof: TemplateValidation) -> None:
            loop.call_soon_threadsafe(self.studio.update_one, template, proof)

        reading = await asyncio.to_thread(self.reader.read, self.studio.viewed, show)
        self.studio.update(reading)
        return reading

    async def start(self) -> None:
        """Bring what was proved to life; raises Trouble (what was started is then stopped)."""
        await asyncio.to_thread(self.folder.acquire, self._tell)
        try:
            self.ports = plan.choose_ports(self.wishes, self._tell)
            self._start_studio()
            await self._start_broker()
            self._start(plan.sandbox(self.folder, self.ports, self.studio_address))
            await self.apply(self.reading)
            self._start(plan.gateway(self.folder, self.ports, self.bootstrap))
            await self._until_ready()
        except BaseException:
            await self.stop()
            raise

    async def apply(self, reading: Reading) -> None:
        """Make the workers serve what the manifests say now."""
        self.reading = reading
        before = {stand.home: stand for stand in self.stands}
        self.stands = await asyncio.to_thread(
            publish, self.folder.bundles, reading.verdict, complete=reading.complete
        )
        wanted = [topic for stand in self.stands for topic in plan.topics(stand)]
        for name in await asyncio.to_thread(create_topics, self.bootstrap, wanted):
            self._tell(f"topic {name} created")
        self.studio.hold(each for stand in self.stands for each in stand.templates if each.name in stand.held)
        now = {stand.home: stand for stand in self.stands}
        for home, stand in now.items():
            if home not in before or before[home].profile.spec.mode != stand.profile.spec.mode:
                self._tell_mode(stand)
        gone = [home for home in before if home not in now]
        changed = [home for home in before.keys() & now.keys() if _rules(before[home]) != _rules(now[home])]
        await self._stop(f"worker {home}" for home in [*gone, *changed])
        for home in now:
            if f"worker {home}" not in self.children:
                self._start(self._worker(home))
        self._write_addresses()

    def _tell_mode(self, stand: Stand) -> None:
        """Say where a profile's letters go when that is not what its manifest may lead one to think."""
        if stand.profile.spec.mode != "SMTP":
            return
        relay = stand.profile.spec.smtp.host if stand.profile.spec.smtp else "its relay"
        if self.wishes.deliver:
            self._tell(f"profile {stand.home} sends to {relay}: real people get these letters")
        else:
            self._tell(
                f"profile {stand.home} (mode SMTP) goes to the inbox; --deliver lets it send to {relay}"
            )

    async def stop(self) -> None:
        """End everything in order; safe to call at any moment."""
        if self._studio_server is not None:
            await self._studio_server.stop()
        await self._stop(["gateway"])
        await self._stop([name for name in self.children if name.startswith("worker ")])
        await self._stop(["sandbox"])
        if self.broker is not None:
            await self.broker.stop()
        self.folder.forget_addresses()
        self.folder.release()

    def _start_studio(self) -> None:
        if self.wishes.studio:
            sender = Sender(
                self.gateway, self.inbox, self.folder, lambda: self.stands, deliver=self.wishes.deliver
            )
            context = StudioContext(self.studio, sender, self.wishes.manifests, self.wishes.data)
            self._studio_server = StudioServer(context, self.ports.studio)
            self._studio_server.start()

    async def _start_broker(self) -> None:
        if self.wishes.bootstrap is not None:
            self.stage(f"waiting for Kafka at {self.wishes.bootstrap}")
            await asyncio.to_thread(await_broker, self.wishes.bootstrap)
            return
        self.stage("starting the broker")
        surroundings = Surroundings(self.folder.log("broker"), self.folder.inherited, self.stage)
        broker = LocalBroker(self.folder.broker, self.ports.broker, fsync=True, surroundings=surroundings)
        self.broker = BrokerKeeper(broker, self._tell)
        await self.broker.start()

    def _worker(self, home: str) -> Program:
        # never a fixed port: of two runs that start together one would take the other's worker for its own
        self._worker_ports.setdefault(home, free_port())
        shared = plan.Surroundings(self.folder, self.bootstrap, self.ports.smtp, self.wishes.deliver)
        return plan.worker(home, self._worker_ports[home], shared)

    def _start(self, program: Program) -> None:
        child = Child(program, self._tell)
        self.children[program.name] = child
        child.start()

    async def _stop(self, names: Iterable[str]) -> None:
        ending = [child for name in list(names) if (child := self.children.pop(name, None))]
        await asyncio.gather(*(child.stop() for child in ending))

    async def _until_ready(self) -> None:
        """Wait until every program says that it is ready; raises Trouble that names those that do not."""
        addresses = {"sandbox": self.inbox, "gateway": self.gateway}
        addresses |= {f"worker {stand.home}": self.worker_address(stand.home) for stand in self.stands}
        if not self.stands:
            del addresses["gateway"]  # it is ready once there is a template
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        while addresses:
            self.stage(f"waiting for {', '.join(addresses)}")
            for name, address in list(addresses.items()):
                if (reason := await asyncio.to_thread(_unready, address)) is None:
                    del addresses[name]
                elif asyncio.get_running_loop().time() > deadline:
                    log = self.children[name].program.log
                    raise Trouble(
                        f"The {name} is not ready after {READY_SECONDS:.0f} s: {reason}", f"See {log}"
                    )
            await asyncio.sleep(LOOK_SECONDS)

    def _write_addresses(self) -> None:
        self.folder.write_addresses(
            Addresses(
                pid=os.getpid(),
                bootstrap_servers=self.bootstrap,
                gateway=self.gateway,
                inbox=self.inbox,
                smtp=f"{LOOPBACK}:{self.ports.smtp}",
                manifests=str(self.wishes.manifests.absolute()),
                studio=self.studio_address,
                workers={stand.home: self.worker_address(stand.home) for stand in self.stands},
            )
        )


def _quiet(_: str) -> None:
    """Nobody waits."""


def _unready(address: str) -> str | None:
    """None when the program at an address is ready, else why not."""
    try:
        answer = client.get(f"{address}/readyz", timeout=2)
    except client.Unanswered:
        return "it does not answer"
    if answer.ok:
        return None
    problems = answer.body.get("problems") if isinstance(answer.body, dict) else None
    return ", ".join(problems) if problems else answer.detail


def _rules(stand: Stand) -> tuple[SmtpProfile, SmtpProfile | None]:
    """What a worker reads when it starts."""
    return stand.profile, stand.fallback
