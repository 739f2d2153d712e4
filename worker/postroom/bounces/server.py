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
"""A report may contain the whole letter; only its beginning is parsed."""
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
    """Reports that changed nothing, by reason: known, unknown_letter, full, untied."""
    letters: Counter[str] = field(default_factory=Counter)
    """Letters by the state to which a report moved them."""
    suppressed: Counter[str] = field(default_factory=Counter)
    """New entries of suppression lists, by reason."""

    def add(self, result: ReportResult) -> None:
        """Count the result of a report."""
        self.letters.update(state.value for state in result.changes)
        self.suppressed.update(reason.value for reason in result.suppressed)


@dataclass(frozen=True, slots=True)
class ReportTarget:
    """What a return path identifies: the tag of a letter, and the ledgers that may have it."""

    tag: bytes
    """Empty for the address of complaints: the complaint itself must name its letter."""
    writers: Sequence["ReportWriter"]
    """The letter is in one of these ledgers."""


class ReportPending(Exception):
    """A key or a ledger is not available yet; the message names it, for the sender's log."""


ResolveAddress = Callable[[str], ReportTarget | None]
"""Return path → target; None if it is not valid. Raises ReportPending."""


class ReportWriter:
    """Writes reports to one ledger; reports that arrive together share a transaction."""

    def __init__(
        self, store: ReportStore, configs: dict[str, BounceConfig], clock: Clock, stats: BounceStats
    ) -> None:
        self.health = LedgerHealth()
        self._store, self._configs, self._clock, self._stats = store, configs, clock, stats
        self._waiting: asyncio.Queue[tuple[ReceivedReport, asyncio.Future[ReportResult]]] = asyncio.Queue()

    async def take(self, report: ReceivedReport) -> ReportResult:
        answer: asyncio.Future[ReportResult] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((report, answer))
        return await answer

    def parts(self) -> Sequence[Coroutine[Any, Any, None]]:
        """The tasks to run while the ledger is open."""
        return self._serve(), self._sweep()

    async def _serve(self) -> None:
        while True:
            batch: list[tuple[ReceivedReport, asyncio.Future[ReportResult]]] = []
            batch.append(await self._waiting.get())
            while len(batch) < MAX_GROUP and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            try:
                await self._commit(batch)
            finally:  # no caller waits forever, whatever ends this
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(LedgerUnavailable("the ledger was closed"))

    async def _commit(self, batch: Sequence[tuple[ReceivedReport, asyncio.Future[ReportResult]]]) -> None:
        now = self._clock.now()
        work = asyncio.to_thread(self._store.add, [report for report, _ in batch], self._configs, now)
        result = await self._try(work)
        for number, (_, answer) in enumerate(batch):
            if not answer.done():  # the caller may have been cancelled
                if isinstance(result, Exception):
                    answer.set_exception(result)
                else:
                    answer.set_result(result[number])

    async def _sweep(self) -> None:
        """Apply pending reports of letters that a worker has settled since."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            result = await self._try(
                asyncio.to_thread(self._store.apply_pending, self._configs, self._clock.now())
            )
            for applied in result if not isinstance(result, Exception) else ():
                self._stats.add(applied)

    async def _try(
        self, work: Coroutine[Any, Any, Sequence[ReportResult]]
    ) -> Sequence[ReportResult] | Exception:
        try:
            done = await work
        except (LedgerUnavailable, Rejected) as error:
            if self.health.ok:
                log.error("ledger does not accept reports; senders keep their messages", reason=str(error))
            self.health.ok, self.health.reason = False, str(error)
            return error
        except Exception as error:
            log.error("internal error; reports not stored", exc_info=error)
            return error
        if not self.health.ok:
            log.warning("ledger accepts reports again")
        self.health.ok, self.health.reason = True, ""
        return done


class BounceHandler(smtpd.MailHandler):
    """Accepts reports for valid return paths; all sessions share it and its counts."""

    def __init__(self, resolve: ResolveAddress, stats: BounceStats) -> None:
        super().__init__(LIMITS, stats)
        self._resolve, self._stats = resolve, stats

    def refuse(self, address: str) -> str | None:
        """Reject an invalid return path. The address is not logged: it may be personal data."""
        try:
            target = self._resolve(address)
        except ReportPending as reason:
            self._stats.refused["not_yet"] += 1
            return f"451 4.3.0 {reason}"
        if target is None:
            self._stats.refused["recipient"] += 1
            return "550 5.1.1 No return path of ours"
        return None

    async def take(self, incoming: ReceivedMail) -> str:
        """Parse a message, store its report, and reply after the commit."""
        report = await asyncio.to_thread(parse_report, incoming.content)
        with contextlib.suppress(ReportPending):
            target = self._resolve(incoming.recipients[0])
            if target is not None and not target.tag:
                target = self._target_of_complaint(report)
                if target is None:
                    self._stats.unkept["untied"] += 1
                    return "250 2.0.0 Taken; it names no letter of ours"
            if target is not None:
                return await self._write(target, report, incoming.content)
        return self._later("its key is gone")

    def _target_of_complaint(self, complaint: ParsedReport) -> ReportTarget | None:
        """Find the letter of a complaint by the return path that it quotes: Original-Mail-From (RFC 5965
        §3.2) or the returned letter.
        """
        if all(entry.kind is not ReportKind.COMPLAINT for entry in complaint.entries):
            return None
        targets = (self._resolve(path) for path in complaint.paths)
        return next((target for target in targets if target is not None and target.tag), None)

    async def _write(self, target: ReportTarget, report: ParsedReport, content: bytes) -> str:
        unread = any(entry.kind is ReportKind.UNPARSED for entry in report.entries)
        received = ReceivedReport(target.tag, report.fingerprint, report.entries, content if unread else b"")
        result = ReportResult()
        for writer in target.writers:
            try:
                result = await writer.take(received)
            except Exception:  # noqa: BLE001 - the writer has logged the error; the sender keeps its message
                return self._later("the ledger is away")
            if result.profile:
                break
        return self._answer(result, report)

    def _later(self, reason: str) -> str:
        self._stats.refused["not_yet"] += 1
        return f"451 4.3.0 Not taken: {reason}; try again"

    def _answer(self, result: ReportResult, report: ParsedReport) -> str:
        if result.limit_reached:
            self._stats.unkept["full"] += 1
            return "552 5.2.2 That letter has all the reports that are kept"
        if result.is_duplicate or not result.profile:
            why = "known" if result.is_duplicate else "unknown_letter"
            self._stats.unkept[why] += 1
        else:
            self._stats.reports.update(entry.kind.value for entry in report.entries)
            self._stats.add(result)
        entries = [(entry.kind.value, entry.status) for entry in report.entries]
        changes = [state.value for state in result.changes]
        log.info(
            "report", profile=result.profile, entries=entries, changes=changes, known=result.is_duplicate
        )
        return "250 2.0.0 Taken"


class BounceSession(smtpd.SmtpSession):
    """An SMTP or LMTP session."""

    async def smtp_LHLO(self, hostname: str) -> None:  # noqa: N802 - the name is aiosmtpd's
        """Handle the greeting of LMTP (RFC 2033); with one recipient a transaction the rest equals SMTP."""
        await self.smtp_EHLO(hostname)
