"""The transactions of one SMTP connection, without the connection (RFC 5321 §4.1, RFC 2920).

In: replies of the relay. Out: commands and content, written to a `Transport`. Letters come from a `SendQueue`
and return to it, each with a result or unsent. The module has no socket, no clock and no await.

One pipelined group is the content of a letter, its end of data, and MAIL, RCPT and DATA of the next letter:
one write, with replies in that order. When the relay does not offer PIPELINING, each command waits for the
reply to the command before it.

A letter that needs an extension which the relay does not offer is not sent. The client makes a `Reply` in the
relay's place, with the code that a relay would use and the name of the extension:

| reason                                   | reply                  | source   |
|------------------------------------------|------------------------|----------|
| the letter is larger than SIZE announces | 552 5.3.4 after MAIL   | RFC 1870 |
| SMTPUTF8 for a non-ASCII address         | 553 5.6.7 after MAIL   | RFC 6531 |
| 8BITMIME for content that is not ASCII   | 554 5.6.3 after MAIL   | RFC 6152 |
| an address that is invalid in a command  | 501 5.1.7 / 5.1.3      | RFC 5321 |

Failure: a reply without a command, or one that is invalid after its command, ends the connection. After a 354
for a letter that must not be sent the connection is closed: RSET would be content, and a `.` alone would send
an empty letter.
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


class QueuedMessage:
    """An outbound message in the pool, from `deliver` to its Result."""

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
        """The end of the fence's grant in monotonic seconds: content may leave before it; -inf: no grant."""
        self.fence_requested = False
        """The message waits for a call of the fence or is part of the running call."""
        self.in_fence_call = False
        """The message is part of the running call; its Result is reported after that call has returned."""
        self.settled = False
        """The Result is decided; the content must not leave any more."""
        self.result: Result | None = None
        """A Result that was decided while a call of the fence contained the message."""
        self.waiter: TransactionPipeline | None = None
        """The connection that has read 354 for this message and waits for the fence."""
        self.rate_counted = False
        """The message occupies a slot of the rate limit."""
        self.requeued = False
        """The message was requeued once because a reused connection was closed."""


class Transport(Protocol):
    """The connection to the relay, as its transactions use it."""

    def write(self, data: bytes) -> None: ...
    def write_content(self, content: bytes, following: bytes) -> None:
        """Send a letter including its end of data, and the commands after it."""
        ...

    @property
    def end_of_data_sent(self) -> bool:
        """Whether the kernel has accepted the last byte of the last content."""
        ...

    def on_idle(self) -> None:
        """There is nothing to send now; the owner calls `start_next` when there is."""
        ...

    def close(self, cause: CloseCause, reason: str) -> None: ...


class SendQueue(Protocol):
    """The queue of unsent messages and the receiver of results."""

    def now(self) -> float: ...
    def take(self) -> QueuedMessage | None: ...
    def ask(self, queued: QueuedMessage) -> None:
        """Request a verdict of the fence; after it the message's `waiter` is resumed."""
        ...

    def settle(self, queued: QueuedMessage, result: Result) -> None:
        """Set the result of a message; no effect when it has a result."""
        ...

    def requeue(self, queued: QueuedMessage) -> None:
        """Put a message back at the head of the queue: no content left and no reply was received."""
        ...


_UNSAFE = re.compile(r"[\x00-\x20\x7f-\x9f<>\u2028\u2029\ud800-\udfff]")


def find_incompatibility(envelope: Envelope, content: bytes, relay: Capabilities) -> Reply | None:
    """Return the rejection of a letter that this relay cannot take; None when it can."""
    if _UNSAFE.search(envelope.sender):
        return Reply(Stage.MAIL, 501, "5.1.7 the sender's address is invalid in an SMTP command; not sent")
    if not envelope.recipient or _UNSAFE.search(envelope.recipient):
        return Reply(Stage.RCPT, 501, "5.1.3 the recipient's address is invalid in an SMTP command; not sent")
    if relay.size_limit is not None and len(content) > relay.size_limit:
        sizes = f"the letter has {len(content)} octets, the relay allows SIZE {relay.size_limit}"
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
    """Build MAIL and RCPT, each with its CRLF, for a letter that passed `find_incompatibility`."""
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
    """Runs at most `max_messages` transactions on one connection after EHLO.

    `current` is the letter whose transaction is open; `following` is the next letter, whose envelope was sent
    in the same group as the content of `current`.
    """

    def __init__(
        self, transport: Transport, send_queue: SendQueue, capabilities: Capabilities, max_messages: int
    ) -> None:
        self._transport = transport
        self._send_queue = send_queue
        self._capabilities = capabilities
        self._messages_left = max_messages
        self._expected_replies: deque[ReplyHandler] = deque()
        self._reply_handlers = (self._on_mail, self._on_rcpt, self._on_data)
        self._pending_commands: deque[tuple[bytes, ReplyHandler]] = deque()
        """Commands that wait for the reply before them, when the relay does not offer PIPELINING."""
        self.stage = MAIL
        self.current: QueuedMessage | None = None
        self.following: QueuedMessage | None = None
        self.refusal: Reply | None = None
        """The first rejection in the current transaction; it becomes the result."""
        self._answered = False
        """A reply to the current transaction was received."""
        self._transactions_started = 0
        self._needs_reset = False
        """A rejected transaction may be open at the relay: the next group begins with RSET."""
        self._stopping = False
        self.over = False

    # --- called by the connection and the pool ---------------------------------------------------

    def start_next(self) -> None:
        """Start the next letter; without a letter become idle, or send QUIT after the last message."""
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
            self._expected_replies.extend(handler for _, handler in steps)
            self._transport.write(b"".join(command for command, _ in steps))
        else:
            self._pending_commands.extend(steps)
            self._send_pending()

    def on_reply(self, code: int, text: bytes) -> None:
        """Process one reply of the relay."""
        if self._expected_replies:
            self._expected_replies.popleft()(code, text)
        elif code == 421:
            self.refusal = self.refusal or Reply(self.stage, code, printable(text))
            self.abort(CloseCause.CLOSING, f"421 {printable(text)}")
        else:
            self.abort(CloseCause.UNSOLICITED, f"the relay replied {code} without a command")

    def resume(self) -> None:
        """After the 354 for the current letter: send its content, wait for the fence, or close."""
        queued = self.current
        if queued is None or self.over:
            return
        if queued.settled or self._stopping:
            self.abort(CloseCause.NOT_SENT, "the letter must not be sent; the relay had replied 354")
        elif self._send_queue.now() < queued.granted_until:
            self._send_content(queued)
        else:
            queued.waiter = self
            self._send_queue.ask(queued)

    def quit(self) -> None:
        """Send QUIT; only between transactions."""
        self._expected_replies.append(self._on_quit)
        self._transport.write(b"QUIT\r\n")

    def stop(self) -> None:
        """Start nothing more. Wait for the reply to a content that was begun; return all other letters."""
        self._stopping = True
        if self.current is None:
            if not self._expected_replies:
                self.quit()
        elif self.stage is not END_OF_DATA:
            self.abort(CloseCause.DRAINED, "the relay's pool is draining")
        elif self.following is not None:
            self._send_queue.requeue(self.following)

    def release_next(self) -> None:
        """Requeue the next letter, which waits for a slow reply to the end of data.

        The relay has its envelope, so the connection is closed after that reply.
        """
        following, self.following = self.following, None
        if following is not None:
            self._send_queue.requeue(following)

    def abort(self, cause: CloseCause, reason: str) -> None:
        """Close the connection: report the result of the current letter, requeue the next."""
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
        """Whether the connection is open and has nothing to do."""
        return not self.over and self.current is None and not self._expected_replies

    @property
    def awaiting_reply(self) -> bool:
        """Whether a reply of the relay is pending."""
        return bool(self._expected_replies)

    # --- replies ---------------------------------------------------------------------------------

    def _on_reset(self, code: int, text: bytes) -> None:
        if not 200 <= code < 300:
            cause = CloseCause.CLOSING if code == 421 else CloseCause.PROTOCOL_ERROR
            self.abort(cause, f"the relay replied {code} {printable(text)} to RSET")
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
            # RFC 2920 §3.1: no recipient was accepted, yet the relay waits for content.
            self._expected_replies.append(self._on_empty_content)
            self._transport.write(b".\r\n")
        else:
            self.abort(CloseCause.PROTOCOL_ERROR, "the relay replied 354 after it had rejected the sender")

    def _on_empty_content(self, code: int, text: bytes) -> None:
        """The reply to an empty content without recipients; a 250 is no acceptance of the letter."""
        if code == 421:
            self.abort(CloseCause.CLOSING, f"421 {printable(text)}")
        else:
            self._finish_refused()

    def _on_end_of_data(self, code: int, text: bytes) -> None:
        current = self.current
        assert current is not None
        if 300 <= code < 400 or (code < 300 and not self._transport.end_of_data_sent):
            self.abort(CloseCause.PROTOCOL_ERROR, f"the relay replied {code} to the end of data")
            return
        early = not self._transport.end_of_data_sent
        self._send_queue.settle(current, Reply(END_OF_DATA, code, printable(text)))
        following, self.following = self.following, None
        resequenced = following is None and self._expected_replies
        if code == 421 or early or self._stopping or resequenced:
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
        """The single place where content leaves; `resume` has checked the 354, the grant and the drain."""
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
        """Take the next letter that this relay can carry and request its fence verdict."""
        while self._messages_left > 0 and not self._stopping:
            queued = self._send_queue.take()
            if queued is None:
                return None
            queued.content = content = queued.message.content
            rejection = find_incompatibility(queued.message.envelope, content, self._capabilities)
            if rejection is None:
                self._messages_left -= 1
                self._send_queue.ask(queued)
                return queued
            self._send_queue.settle(queued, rejection)
        return None

    def _set_current(self, queued: QueuedMessage) -> None:
        self.current = queued
        self.refusal = None
        self.stage = MAIL
        self._answered = False
        self._transactions_started += 1

    def _send_pending(self) -> None:
        command, handler = self._pending_commands.popleft()
        self._expected_replies.append(handler)
        self._transport.write(command)

    def _refuse(self, stage: Stage, code: int, text: bytes) -> bool:
        """Store the first rejection. True: continue with the replies to this transaction."""
        if code < 400:
            self.abort(CloseCause.PROTOCOL_ERROR, f"the relay replied {code} to {stage.upper()}")
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
        """Report the rejection of the current letter, whose transaction may still be open, and go on."""
        current, refusal = self.current, self.refusal
        assert current is not None
        assert refusal is not None
        self.current = None
        self._send_queue.settle(current, refusal)
        self._needs_reset = True
        self.start_next()

    def _close_after_end_of_data(self, code: int) -> None:
        if code == 421:
            self.abort(CloseCause.CLOSING, "421 to the end of data")
        elif self.following is None and self._expected_replies:
            self.abort(CloseCause.RESEQUENCED, "its next letter was sent over another connection")
        elif self._stopping and self.following is None:
            self.quit()
        elif self._stopping:
            self.abort(CloseCause.DRAINED, "the relay's pool is draining")
        else:
            self.abort(CloseCause.PROTOCOL_ERROR, "the relay replied before the content had ended")

    def _fail_current(self, queued: QueuedMessage, cause: CloseCause, reason: str) -> None:
        if self.stage is END_OF_DATA:
            sent = self._transport.end_of_data_sent
            self._send_queue.settle(queued, Lost(END_OF_DATA if sent else DATA, sent, reason))
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
            # The relay had closed the reused connection before this letter: no fact about the letter.
            queued.requeued = True
            self._send_queue.requeue(queued)
        else:
            self._send_queue.settle(queued, Lost(self.stage, False, reason))
