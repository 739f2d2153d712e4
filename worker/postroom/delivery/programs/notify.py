"""Who is told what became of a profile's letters: the wiring of its herald."""

from collections.abc import Collection, Mapping

import structlog

from postroom.delivery.decide.herald import herald_of
from postroom.delivery.programs.job import Job
from postroom.letter.profile import SmtpProfileSpec
from postroom.letter.status_events import ledger_states
from postroom.ports.notices import TOPIC, Outbox

log = structlog.get_logger("postroom.worker")


def wanted_by(spec: SmtpProfileSpec) -> Mapping[str, Collection[str]]:
    """Each destination, and the states that it wants to hear of."""
    wanted = {TOPIC: ledger_states(spec.kafka.status_events)} if spec.kafka.status_events else {}
    return wanted | {one.name: ledger_states(one.events) for one in spec.callbacks}


async def tell_others(job: Job, outbox: Outbox) -> None:
    """Put a notice into the outbox for everybody who wants one, and drop those that nobody wants any more."""
    wanted = wanted_by(job.profile.spec)
    if wanted:
        outbox.announce(herald_of(wanted))
    if gone := await outbox.abandon(list(wanted)):
        log.warning("notices dropped: the profile names their destination no more", count=gone)
