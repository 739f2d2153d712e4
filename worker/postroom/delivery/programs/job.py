"""What a worker is to do, known before it has reached anything: its settings, its profile, its exit."""

from dataclasses import dataclass, replace

import structlog

from postroom.clock import SystemClock
from postroom.delivery.post import House
from postroom.delivery.programs.relays import Exit, open_exit
from postroom.delivery.programs.rules import house_of, read_profile, unheeded
from postroom.delivery.programs.signing import Signing
from postroom.delivery.settings import WorkerSettings
from postroom.letter.profile import SmtpProfile, topic_of
from postroom.ports.world import Clock

log = structlog.get_logger("postroom.worker")


@dataclass(frozen=True, slots=True)
class Job:
    """One profile's letters, and where they leave."""

    settings: WorkerSettings
    profile: SmtpProfile
    exit: Exit
    house: House
    clock: Clock
    signing: Signing | None = None

    @property
    def topic(self) -> str:
        """The topic that events come on."""
        return topic_of(self.profile)


def read_job(settings: WorkerSettings) -> Job:
    """Read the profile and choose the relay; raises Rejected."""
    profile = read_profile(settings.profile)
    exit_ = open_exit(profile, settings)
    house = house_of(profile, exit_.accepted_as)
    signing = Signing(profile, settings.secrets, exit_.mode == "SMTP") if profile.spec.dkim else None
    return Job(settings, profile, exit_, replace(house, signer=signing), SystemClock(), signing)


def announce(job: Job) -> None:
    """Say what this worker does, and what of its profile it does not act on."""
    log.info("profile", name=job.profile.metadata.name, mode=job.exit.mode, topic=job.topic)
    if job.exit.guarded:
        log.warning(
            "mode SMTP is treated as Sandbox: delivery is not allowed here",
            setting="POSTROOM_DELIVERY_ALLOWED",
        )
    for field in unheeded(job.profile):
        log.warning("this release does not act on a field of the profile yet", field=field)
