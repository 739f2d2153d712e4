"""Receive bounce reports over SMTP or LMTP and store them in a ledger; 250 is sent after the commit.

A recipient is accepted only if the signature of its return path is valid, so the server relays no mail and
sends none. Reports that arrive together are stored in one transaction. While a key or a ledger is not
available, the reply is 451 and the sender keeps its message.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from postroom import smtpd
from postroom.letter.dsn import MAX_REPORT_BYTES, ParsedReport, ReportKind, parse_report
from postroom.letter.problems import Rejected
from postroom.ports.bounces import BounceConfig, ReceivedReport, ReportResult, ReportStore
from postroom.ports.world import Clock, LedgerHealth, LedgerUnavailable
from postroom.smtpd import ReceivedMail, ServerLimits, ServerStats

MAX_MESSAGE_BYTES = 50 * 1024 * 1024
"""A report may return the whole letter; what is read of it is at its beginning."""
MAX_GROUP = 100
SWEEP_SECONDS = 1.0
LIMITS = ServerLimits(
    "bounce intake",
    "Postroom: reports about letters, and nothing else",
    MAX_MESSAGE_BYTES,
    MAX_REPORT_BYTES,
    recipients=1,
    sessions=100,
    long_lines=True,
)

log = structlog.get_logger("postroom.bounces")


@dataclass(slots=True)
class BounceStats(ServerStats):
    """Counts since the start, for the metrics."""

    reports: Counter[str] = field(default_factory=Counter)
    """By kind."""
    unkept: Counter[str] = field(default_factory=Counter)
    """Reports that changed nothing, by why: known, unknown_letter, full, untied."""
    letters: Counter[str] = field(default_factory=Counter)
    """Letters by the state that a report brought them to."""
    suppressed: Counter[str] = field(default_factory=Counter)
    """New entries of suppression lists, by reason."""

    def add(self, taken: ReportResult) -> None:
        """Count the result of a report."""
        self.letters.update(state.value for state in taken.changes)
        self.suppressed.update(reason.value for reason in taken.suppressed)


@dataclass(frozen=True, slots=True)
class ReportTarget:
    """The letter that a return path is of, as far as it says: where to ask for it."""

    tag: bytes
    """Empty: complaints about any letter come here, and have to say which."""
    writers: Sequence["ReportWriter"]
    """One of these ledgers has it."""


class ReportPending(Exception):
    """A key or a ledger is not there yet; the message says which, for the sender's log."""


ResolveAddress = Callable[[str], ReportTarget | None]
"""Return path → target; None if it is not valid. Raises ReportPending."""


class ReportWriter:
    """Writes reports to one ledger; reports that arrive together share a transaction."""

    def __init__(
        self, returns: ReportStore, houses: dict[str, BounceConfig], clock: Clock, stats: BounceStats
    ) -> None:
        self.health = LedgerHealth()
        self._returns, self._houses, self._clock, self._stats = returns, houses, clock, stats
        self._waiting: asyncio.Queue[tuple[ReceivedReport, asyncio.Future[ReportResult]]] = asyncio.Queue()

    async def take(self, one: ReceivedReport) -> ReportResult:
        answer: asyncio.Future[ReportResult] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((one, answer))
        return await answer

    def parts(self) -> Sequence[Coroutine[Any, Any, None]]:
        """What runs as long as it is open."""
        return self._serve(), self._sweep()

    async def _serve(self) -> None:
        while True:
            handed: list[tuple[ReceivedReport, asyncio.Future[ReportResult]]] = []
            handed.append(await self._waiting.get())
            while len(handed) < MAX_GROUP and not self._waiting.empty():
                handed.append(self._waiting.get_nowait())
            try:
                await self._commit(handed)
            finally:  # no caller waits forever, whatever ends this
                for _, answer in handed:
                    if not answer.done():
                        answer.set_exception(LedgerUnavailable("the ledger was closed"))

    async def _commit(self, handed: Sequence[tuple[ReceivedReport, asyncio.Future[ReportResult]]]) -> None:
        now = self._clock.now()
        work = asyncio.to_thread(self._returns.add, [one for one, _ in handed], self._houses, now)
        taken = await self._try(work)
        for number, (_, answer) in enumerate(handed):
            if not answer.done():  # the caller may have been cancelled
                if isinstance(taken, Exception):
                    answer.set_exception(taken)
                else:
                    answer.set_result(taken[number])

    async def _sweep(self) -> None:
        """Apply what waited for a worker, once that worker has settled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            taken = await self._try(
                asyncio.to_thread(self._returns.apply_pending, self._houses, self._clock.now())
            )
            for one in taken if not isinstance(taken, Exception) else ():
                self._stats.add(one)

    async def _try(
        self, work: Coroutine[Any, Any, Sequence[ReportResult]]
    ) -> Sequence[ReportResult] | Exception:
        try:
            done = await work
        except (LedgerUnavailable, Rejected) as error:
            if self.health.ok:
                log.error("ledger does not take reports; their senders keep them", reason=str(error))
            self.health.ok, self.health.reason = False, str(error)
            return error
        except Exception as error:
            log.error("reports could not be taken", exc_info=error)
            return error
        if not self.health.ok:
            log.warning("ledger takes reports again")
        self.health.ok, self.health.reason = True, ""
        return done


class BounceHandler(smtpd.MailHandler):
    """What all sessions share: whose return paths are honoured, and the figures."""

    def __init__(self, addressee: ResolveAddress, stats: BounceStats) -> None:
        super().__init__(LIMITS, stats)
        self._addressee, self._stats = addressee, stats

    def refuse(self, address: str) -> str | None:
        """See the base; nothing of the address is logged: it may be a person's."""
        try:
            place = self._addressee(address)
        except ReportPending as reason:
            self._stats.refused["not_yet"] += 1
            return f"451 4.3.0 {reason}"
        if place is None:
            self._stats.refused["recipient"] += 1
            return "550 5.1.1 No return path of ours"
        return None

    async def take(self, incoming: ReceivedMail) -> str:
        """Parse a message, store its report, and reply after the commit."""
        report = await asyncio.to_thread(parse_report, incoming.content)
        with contextlib.suppress(ReportPending):
            place = self._addressee(incoming.recipients[0])
            if place is not None and not place.tag:
                place = self._letter_of(report)
                if place is None:
                    self._stats.unkept["untied"] += 1
                    return "250 2.0.0 Taken; it names no letter of ours"
            if place is not None:
                return await self._hand_in(place, report, incoming.content)
        return self._later("its key is gone")

    def _letter_of(self, complaint: ParsedReport) -> ReportTarget | None:
        """By the return path that a complaint quotes (RFC 5965 §3.2, Original-Mail-From, or the letter
        itself).
        """
        if all(entry.kind is not ReportKind.COMPLAINT for entry in complaint.entries):
            return None
        places = (self._addressee(path) for path in complaint.paths)
        return next((place for place in places if place is not None and place.tag), None)

    async def _hand_in(self, place: ReportTarget, report: ParsedReport, content: bytes) -> str:
        unread = any(entry.kind is ReportKind.UNPARSED for entry in report.entries)
        one = ReceivedReport(place.tag, report.fingerprint, report.entries, content if unread else b"")
        taken = ReportResult()
        for writer in place.writers:
            try:
                taken = await writer.take(one)
            except Exception:  # noqa: BLE001 - what it was is on the ledger's record; the sender keeps its message
                return self._later("the ledger is away")
            if taken.profile:
                break
        return self._answer(taken, report)

    def _later(self, reason: str) -> str:
        self._stats.refused["not_yet"] += 1
        return f"451 4.3.0 Not taken: {reason}; try again"

    def _answer(self, taken: ReportResult, report: ParsedReport) -> str:
        if taken.limit_reached:
            self._stats.unkept["full"] += 1
            return "552 5.2.2 That letter has all the reports that are kept"
        if taken.is_duplicate or not taken.profile:
            why = "known" if taken.is_duplicate else "unknown_letter"
            self._stats.unkept[why] += 1
        else:
            self._stats.reports.update(entry.kind.value for entry in report.entries)
            self._stats.add(taken)
        entries = [(entry.kind.value, entry.status) for entry in report.entries]
        changes = [state.value for state in taken.changes]
        log.info("report", profile=taken.profile, entries=entries, changes=changes, known=taken.is_duplicate)
        return "250 2.0.0 Taken"


class BounceSession(smtpd.SmtpSession):
    """An SMTP or LMTP session."""

    async def smtp_LHLO(self, hostname: str) -> None:  # noqa: N802 - the name is aiosmtpd's
        """RFC 2033's greeting: what follows is the same, with one recipient a transaction."""
        await self.smtp_EHLO(hostname)
