"""Who is told what became of a profile's letters: the wiring of its herald."""

import structlog

from postroom.delivery.decide.herald import herald_of
from postroom.delivery.programs.job import Job
from postroom.letter.telling import states_of
from postroom.ports.notices import TOPIC, Outbox

log = structlog.get_logger("postroom.worker")


async def tell_others(job: Job, outbox: Outbox) -> None:
    """Put a notice into the outbox for everybody who wants one, and drop those that nobody wants any more."""
    spec = job.profile.spec
    wanted = {TOPIC: states_of(spec.kafka.status_events)} if spec.kafka.status_events else {}
    wanted |= {one.name: states_of(one.events) for one in spec.callbacks}
    if wanted:
        outbox.announce(herald_of(wanted))
    if gone := await outbox.abandon(list(wanted)):
        log.warning("notices dropped: the profile names their destination no more", count=gone)
