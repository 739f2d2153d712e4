"""A parcel on its way through the pool: what the fence said of it and whether its fate is decided.

The two sides of a dialogue: the line to the relay and the desk where letters wait.

The commands of one transaction, and what stands against sending it to this relay.

Envelope, content and capabilities in → the bytes of MAIL and RCPT, or a `Reply` in the relay's place: a
letter that needs what EHLO does not offer is not sent, and the reply names the extension. The codes are
those which a relay would use:

| what is missing                          | reply                  | source   |
|------------------------------------------|------------------------|----------|
| the letter is larger than SIZE announces | 552 5.3.4 after MAIL   | RFC 1870 |
| SMTPUTF8 for a non-ASCII address         | 553 5.6.7 after MAIL   | RFC 6531 |
| 8BITMIME for content that is not ASCII   | 554 5.6.3 after MAIL   | RFC 6152 |
| an address that would break the command  | 501 5.1.7 / 5.1.3      | RFC 5321 |

One connection's transactions, without the connection (RFC 5321 §4.1, RFC 2920).

Replies in → commands and content out, through the `Line`; letters come from the `Desk` and each one that
was taken goes back to it, decided or unheard. No socket, no clock of its own, no waiting.

A group is: content, the dot, the next letter's MAIL, RCPT, DATA; one write, answered in order. Towards a
relay without PIPELINING each command waits for the answer before it.

Failure: an answer to nothing, or one that cannot follow, ends the dialogue. After a 354 that must not be
used the connection is closed: RSET would be content, and a lone dot would deliver an empty letter.
"""

import math
import re
from collections import deque
from collections.abc import Callable
from typing import Protocol

from postroom.adapters.smtp.counters import CloseCause
from postroom.adapters.smtp.dialer import Capabilities
from postroom.adapters.smtp.reply import printable
from postroom.ports.relay import Envelope, Lost, OutboundMessage, Reply, Report, Result, Stage


class FenceWaiter(Protocol):
    """A dialogue that has read 354 for a ticket and waits for the fence."""

    def resume(self) -> None: ...


class QueuedMessage:
    """One parcel, from `deliver` to its one Result."""

    __slots__ = (
        "content",
        "fence_requested",
        "granted_until",
        "in_fence_call",
        "message",
        "rate_counted",
        "report",
        "requeued",
        "result",
        "settled",
        "waiter",
    )

    def __init__(self, message: OutboundMessage, report: Report) -> None:
        self.message = message
        self.report = report
        self.content = b""
        self.granted_until = -math.inf
        """Content may leave before this monotonic second: the fence's grant; -inf without one."""
        self.fence_requested = False
        """It waits for a call of the fence, or is part of the running one."""
        self.in_fence_call = False
        """It is part of the running call: its Result is told only after that call has answered."""
        self.settled = False
        """Its Result is decided; its content must not leave any more."""
        self.result: Result | None = None
        """A Result decided while the fence was at work on it."""
        self.waiter: FenceWaiter | None = None
        self.rate_counted = False
        """The rate counts it as under way."""
        self.requeued = False
        """It was put back once because a kept connection turned out to be dead."""


class Transport(Protocol):
    """The way to the relay."""

    def write(self, data: bytes) -> None: ...
    def write_content(self, content: bytes, following: bytes) -> None:
        """Write a letter, whose last line is the dot, and the commands that travel with it."""
        ...

    @property
    def end_of_data_sent(self) -> bool:
        """Whether the last byte of the last content has been handed to the socket."""
        ...

    def on_idle(self) -> None:
        """There is nothing to send; `begin` again when there is."""
        ...

    def close(self, cause: CloseCause, reason: str) -> None: ...


class SendQueue(Protocol):
    """Where letters wait and results go."""

    def now(self) -> float: ...
    def take(self) -> QueuedMessage | None: ...
    def ask(self, queued: QueuedMessage) -> None:
        """See to it that the fence grants this letter, or withholds it; then its holder is resumed."""
        ...

    def settle(self, queued: QueuedMessage, result: Result) -> None:
        """Decide a letter's result; without effect when it is decided already."""
        ...

    def requeue(self, queued: QueuedMessage) -> None:
        """Nothing was learnt of this letter and nothing of it left: it is first in the queue again."""
        ...


_BREAKING = re.compile(r"[\x00-\x20\x7f-\x9f<>\u2028\u2029\ud800-\udfff]")


def find_incompatibility(envelope: Envelope, content: bytes, relay: Capabilities) -> Reply | None:
    """Why this letter can't be offered to this relay; None when it can."""
    if _BREAKING.search(envelope.sender):
        return Reply(Stage.MAIL, 501, "5.1.7 the sender's address is not fit for an SMTP command; not sent")
    if not envelope.recipient or _BREAKING.search(envelope.recipient):
        return Reply(
            Stage.RCPT, 501, "5.1.3 the recipient's address is not fit for an SMTP command; not sent"
        )
    if relay.size_limit is not None and len(content) > relay.size_limit:
        sizes = f"the letter has {len(content)} octets, the relay announces SIZE {relay.size_limit}"
        return Reply(Stage.MAIL, 552, f"5.3.4 {sizes}; not sent")
    if not relay.smtputf8 and _needs_smtputf8(envelope):
        return Reply(
            Stage.MAIL, 553, "5.6.7 the address needs SMTPUTF8, which the relay does not offer; not sent"
        )
    if not relay.eightbit and not content.isascii():
        text = "5.6.3 the content needs 8BITMIME, which the relay does not offer; not sent"
        return Reply(Stage.MAIL, 554, text)
    return None


def envelope_commands(envelope: Envelope, content: bytes, relay: Capabilities) -> tuple[bytes, bytes]:
    """MAIL and RCPT for a letter without objection, each with its CRLF."""
    mail = f"MAIL FROM:<{envelope.sender}>"
    if relay.size:
        mail += f" SIZE={len(content)}"
    if relay.eightbit and not content.isascii():
        mail += " BODY=8BITMIME"
    if relay.smtputf8 and _needs_smtputf8(envelope):
        mail += " SMTPUTF8"
    return f"{mail}\r\n".encode(), f"RCPT TO:<{envelope.recipient}>\r\n".encode()


def _needs_smtputf8(envelope: Envelope) -> bool:
    return envelope.smtputf8 or not (envelope.sender.isascii() and envelope.recipient.isascii())


MAIL, RCPT, DATA, END_OF_DATA = Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.END_OF_DATA
CLOSED_BY_RELAY = (CloseCause.CLOSED, CloseCause.CLOSING)
ReplyHandler = Callable[[int, bytes], None]


class TransactionPipeline:
    """The transactions of one greeted connection, at most `allowance` of them."""

    def __init__(self, line: Transport, desk: SendQueue, offer: Capabilities, allowance: int) -> None:
        self._transport = line
        self._send_queue = desk
        self._capabilities = offer
        self._messages_left = allowance
        self._expected_replies: deque[ReplyHandler] = deque()
        self._reply_handlers = (self._on_mail, self._on_rcpt, self._on_data)
        self._pending_commands: deque[tuple[bytes, ReplyHandler]] = deque()
        """Commands that wait for the answer before them, when the relay does not pipeline."""
        self.stage = MAIL
        self.current: QueuedMessage | None = None
        self.following: QueuedMessage | None = None
        self.refusal: Reply | None = None
        """The first refusal of the current transaction: its result."""
        self._answered = False
        """Something of the current transaction was answered."""
        self._transactions_started = 0
        self._needs_reset = False
        """A refused transaction may be open at the relay: RSET heads the next group."""
        self._stopping = False
        self.over = False

    # --- what the connection says ----------------------------------------------------------------

    def start_next(self) -> None:
        """Start the next letter, or rest, or take leave when the allowance is used."""
        queued = self._take()
        if queued is None:
            (self._transport.on_idle if self._messages_left > 0 else self.quit)()
            return
        self._set_current(queued)
        mail, rcpt = envelope_commands(queued.message.envelope, queued.content, self._capabilities)
        steps = list(zip((mail, rcpt, b"DATA\r\n"), self._reply_handlers, strict=True))
        if self._needs_reset:
            steps.insert(0, (b"RSET\r\n", self._on_reset))
        self._needs_reset = False
        if self._capabilities.pipelining:
            self._expected_replies.extend(heard for _, heard in steps)
            self._transport.write(b"".join(command for command, _ in steps))
        else:
            self._pending_commands.extend(steps)
            self._send_pending()

    def on_reply(self, code: int, text: bytes) -> None:
        """Take one reply of the relay."""
        if self._expected_replies:
            self._expected_replies.popleft()(code, text)
        elif code == 421:
            self.refusal = self.refusal or Reply(self.stage, code, printable(text))
            self.abort(CloseCause.CLOSING, f"421 {printable(text)}")
        else:
            self.abort(CloseCause.UNSOLICITED, f"the relay said {code} without being asked")

    def resume(self) -> None:
        """354 was read for the current letter: send its content, hold it for the fence, or close."""
        queued = self.current
        if queued is None or self.over:
            return
        if queued.settled or self._stopping:
            self.abort(CloseCause.NOT_SENT, "the letter was withheld after the 354")
        elif self._send_queue.now() < queued.granted_until:
            self._send_content(queued)
        else:
            queued.waiter = self
            self._send_queue.ask(queued)

    def quit(self) -> None:
        """Take leave; only between transactions."""
        self._expected_replies.append(self._on_quit)
        self._transport.write(b"QUIT\r\n")

    def stop(self) -> None:
        """Begin nothing more. A letter whose content is under way is waited for, any other is left."""
        self._stopping = True
        if self.current is None:
            if not self._expected_replies:
                self.quit()
        elif self.stage is not END_OF_DATA:
            self.abort(CloseCause.DRAINED, "the relay's pool is draining")
        elif self.following is not None:
            self._send_queue.requeue(self.following)

    def release_next(self) -> None:
        """Give back the letter behind a slow answer to the dot; the relay has its envelope, and is left."""
        following, self.following = self.following, None
        if following is not None:
            self._send_queue.requeue(following)

    def abort(self, cause: CloseCause, reason: str) -> None:
        """End the dialogue: report what is known of the current letter, give back the one after it."""
        current, following = self.current, self.following
        self.current = self.following = None
        self.over = True
        if current is not None:
            current.waiter = None
            self._fail_current(current, cause, reason)
        if following is not None:
            self._send_queue.requeue(following)
        self._transport.close(cause, reason)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.over and self.current is None and not self._expected_replies

    @property
    def awaiting_reply(self) -> bool:
        """Whether the relay owes an answer."""
        return bool(self._expected_replies)

    # --- what the relay says ---------------------------------------------------------------------

    def _on_reset(self, code: int, text: bytes) -> None:
        if not 200 <= code < 300:
            cause = CloseCause.CLOSING if code == 421 else CloseCause.PROTOCOL_ERROR
            self.abort(cause, f"RSET was answered {code} {printable(text)}")
        elif self._pending_commands:
            self._send_pending()

    def _on_mail(self, code: int, text: bytes) -> None:
        self._answered = True
        if 200 <= code < 300 or self._refuse(MAIL, code, text):
            self.stage = RCPT
            if self._pending_commands:
                self._send_pending()

    def _on_rcpt(self, code: int, text: bytes) -> None:
        if 200 <= code < 300 or self._refuse(RCPT, code, text):
            self.stage = DATA
            if self._pending_commands:
                self._send_pending()

    def _on_data(self, code: int, text: bytes) -> None:
        if code != 354:
            if self._refuse(DATA, code, text):
                self._finish_refused()
        elif self.refusal is None:
            self.resume()
        elif self.refusal.stage is RCPT:
            # RFC 2920 §3.1: no recipient stands, yet the relay waits for content.
            self._expected_replies.append(self._on_empty_content)
            self._transport.write(b".\r\n")
        else:
            self.abort(
                CloseCause.PROTOCOL_ERROR, "the relay asked for content after it had refused the sender"
            )

    def _on_empty_content(self, code: int, text: bytes) -> None:
        """The answer to a lone dot: whatever it is, nothing was accepted."""
        if code == 421:
            self.abort(CloseCause.CLOSING, f"421 {printable(text)}")
        else:
            self._finish_refused()

    def _on_end_of_data(self, code: int, text: bytes) -> None:
        current = self.current
        assert current is not None
        if 300 <= code < 400 or (code < 300 and not self._transport.end_of_data_sent):
            self.abort(
                CloseCause.PROTOCOL_ERROR, f"the relay said {code} where the answer to the dot was due"
            )
            return
        early = not self._transport.end_of_data_sent
        self._send_queue.settle(current, Reply(END_OF_DATA, code, printable(text)))
        following, self.following = self.following, None
        overtaken = following is None and self._expected_replies
        if code == 421 or early or self._stopping or overtaken:
            self.current, self.following = None, following
            self._close_after_end_of_data(code)
        elif following is None:
            self.current = None
            self.start_next()
        else:
            self._set_current(following)

    def _on_quit(self, code: int, text: bytes) -> None:
        self.abort(CloseCause.QUIT, f"{code} {printable(text)}")

    # --- steps -----------------------------------------------------------------------------------

    def _send_content(self, queued: QueuedMessage) -> None:
        """The one place where content leaves: 354 read, granted, in time, not draining (`resume`)."""
        self._expected_replies.append(self._on_end_of_data)
        self.stage = END_OF_DATA
        self.following = following = self._take() if self._capabilities.pipelining else None
        content = queued.content + (b".\r\n" if queued.content.endswith(b"\r\n") else b"\r\n.\r\n")
        if following is None:
            self._transport.write_content(content, b"")
            return
        mail, rcpt = envelope_commands(following.message.envelope, following.content, self._capabilities)
        self._expected_replies.extend(self._reply_handlers)
        self._transport.write_content(content, b"%b%bDATA\r\n" % (mail, rcpt))

    def _take(self) -> QueuedMessage | None:
        """The next letter that may be offered to this relay, the fence asked for it."""
        while self._messages_left > 0 and not self._stopping:
            queued = self._send_queue.take()
            if queued is None:
                return None
            queued.content = content = queued.message.content
            objection = find_incompatibility(queued.message.envelope, content, self._capabilities)
            if objection is None:
                self._messages_left -= 1
                self._send_queue.ask(queued)
                return queued
            self._send_queue.settle(queued, objection)
        return None

    def _set_current(self, queued: QueuedMessage) -> None:
        self.current = queued
        self.refusal = None
        self.stage = MAIL
        self._answered = False
        self._transactions_started += 1

    def _send_pending(self) -> None:
        command, heard = self._pending_commands.popleft()
        self._expected_replies.append(heard)
        self._transport.write(command)

    def _refuse(self, stage: Stage, code: int, text: bytes) -> bool:
        """Keep the first refusal. True: more answers about this letter are due, or DATA was the last."""
        if code < 400:
            self.abort(CloseCause.PROTOCOL_ERROR, f"the relay answered {stage.upper()} with {code}")
            return False
        if self.refusal is None:
            self.refusal = Reply(stage, code, printable(text))
        if code == 421:
            self.abort(CloseCause.CLOSING, f"421 {printable(text)}")
            return False
        if self._pending_commands:
            self._pending_commands.clear()
            self._finish_refused()
            return False
        return True

    def _finish_refused(self) -> None:
        """The current letter was refused and its transaction may still be open."""
        current, refusal = self.current, self.refusal
        assert current is not None
        assert refusal is not None
        self.current = None
        self._send_queue.settle(current, refusal)
        self._needs_reset = True
        self.start_next()

    def _close_after_end_of_data(self, code: int) -> None:
        if code == 421:
            self.abort(CloseCause.CLOSING, "421 to the dot")
        elif self.following is None and self._expected_replies:
            self.abort(CloseCause.RESEQUENCED, "its next letter went another way meanwhile")
        elif self._stopping and self.following is None:
            self.quit()
        elif self._stopping:
            self.abort(CloseCause.DRAINED, "the relay's pool is draining")
        else:
            self.abort(CloseCause.PROTOCOL_ERROR, "the relay answered before the content had ended")

    def _fail_current(self, queued: QueuedMessage, cause: CloseCause, reason: str) -> None:
        if self.stage is END_OF_DATA:
            dot_sent = self._transport.end_of_data_sent
            self._send_queue.settle(queued, Lost(END_OF_DATA if dot_sent else DATA, dot_sent, reason))
        elif self.refusal is not None:
            self._send_queue.settle(queued, self.refusal)
        elif cause is CloseCause.DRAINED:
            self._send_queue.requeue(queued)
        elif (
            not self._answered
            and self._transactions_started > 1
            and cause in CLOSED_BY_RELAY
            and not queued.requeued
        ):
            # A kept connection that the relay had closed by itself says nothing about this letter.
            queued.requeued = True
            self._send_queue.requeue(queued)
        else:
            self._send_queue.settle(queued, Lost(self.stage, False, reason))
