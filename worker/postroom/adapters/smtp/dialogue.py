"""One connection's transactions, without the connection (RFC 5321 §4.1, RFC 2920).

Replies in → commands and content out, through the `Line`; letters come from the `Desk` and each one that
was taken goes back to it, decided or unheard. No socket, no clock of its own, no waiting.

A group is: content, the dot, the next letter's MAIL, RCPT, DATA; one write, answered in order. Towards a
relay without PIPELINING each command waits for the answer before it.

Failure: an answer to nothing, or one that cannot follow, ends the dialogue. After a 354 that must not be
used the connection is closed: RSET would be content, and a lone dot would deliver an empty letter.
"""

from collections import deque
from collections.abc import Callable

from postroom.adapters.smtp.capabilities import Capabilities
from postroom.adapters.smtp.counters import Cause
from postroom.adapters.smtp.envelope import find_objection, write_commands
from postroom.adapters.smtp.reply import printable
from postroom.adapters.smtp.sides import Desk, Line
from postroom.adapters.smtp.ticket import Ticket
from postroom.ports.relay import Lost, Reply, Stage

MAIL, RCPT, DATA, DOT = Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT
SILENT = (Cause.CLOSED, Cause.CLOSING)
Heard = Callable[[int, bytes], None]


class Dialogue:
    """The transactions of one greeted connection, at most `allowance` of them."""

    def __init__(self, line: Line, desk: Desk, offer: Capabilities, allowance: int) -> None:
        self._line = line
        self._desk = desk
        self._offer = offer
        self._allowance = allowance
        self._awaited: deque[Heard] = deque()
        self._group = (self._on_mail, self._on_rcpt, self._on_data)
        self._script: deque[tuple[bytes, Heard]] = deque()
        """Commands that wait for the answer before them, when the relay does not pipeline."""
        self.stage = MAIL
        self.current: Ticket | None = None
        self.following: Ticket | None = None
        self.refusal: Reply | None = None
        """The first refusal of the current transaction: its result."""
        self._heard = False
        """Something of the current transaction was answered."""
        self._begun = 0
        self._unclean = False
        """A refused transaction may be open at the relay: RSET heads the next group."""
        self._stopping = False
        self.over = False

    # --- what the connection says ----------------------------------------------------------------

    def begin(self) -> None:
        """Start the next letter, or rest, or take leave when the allowance is used."""
        ticket = self._take()
        if ticket is None:
            (self._line.rest if self._allowance > 0 else self.quit)()
            return
        self._adopt(ticket)
        mail, rcpt = write_commands(ticket.parcel.envelope, ticket.content, self._offer)
        steps = list(zip((mail, rcpt, b"DATA\r\n"), self._group, strict=True))
        if self._unclean:
            steps.insert(0, (b"RSET\r\n", self._on_reset))
        self._unclean = False
        if self._offer.pipelining:
            self._awaited.extend(heard for _, heard in steps)
            self._line.write(b"".join(command for command, _ in steps))
        else:
            self._script.extend(steps)
            self._step()

    def hear(self, code: int, text: bytes) -> None:
        """Take one reply of the relay."""
        if self._awaited:
            self._awaited.popleft()(code, text)
        elif code == 421:
            self.refusal = self.refusal or Reply(self.stage, code, printable(text))
            self.lose(Cause.CLOSING, f"421 {printable(text)}")
        else:
            self.lose(Cause.UNASKED, f"the relay said {code} without being asked")

    def resume(self) -> None:
        """354 was read for the current letter: send its content, hold it for the fence, or close."""
        ticket = self.current
        if ticket is None or self.over:
            return
        if ticket.done or self._stopping:
            self.lose(Cause.WITHHELD, "the letter was withheld after the 354")
        elif self._desk.now() < ticket.until:
            self._send_content(ticket)
        else:
            ticket.holder = self
            self._desk.ask(ticket)

    def quit(self) -> None:
        """Take leave; only between transactions."""
        self._awaited.append(self._on_quit)
        self._line.write(b"QUIT\r\n")

    def stop(self) -> None:
        """Begin nothing more. A letter whose content is under way is waited for, any other is left."""
        self._stopping = True
        if self.current is None:
            if not self._awaited:
                self.quit()
        elif self.stage is not DOT:
            self.lose(Cause.DRAINED, "the relay's pool is draining")
        elif self.following is not None:
            self._desk.give_back(self.following)

    def let_go(self) -> None:
        """Give back the letter behind a slow answer to the dot; the relay has its envelope, and is left."""
        following, self.following = self.following, None
        if following is not None:
            self._desk.give_back(following)

    def lose(self, cause: Cause, reason: str) -> None:
        """End the dialogue: report what is known of the current letter, give back the one after it."""
        current, following = self.current, self.following
        self.current = self.following = None
        self.over = True
        if current is not None:
            current.holder = None
            self._part_with(current, cause, reason)
        if following is not None:
            self._desk.give_back(following)
        self._line.hang_up(cause, reason)

    @property
    def resting(self) -> bool:
        """Whether there is nothing to do."""
        return not self.over and self.current is None and not self._awaited

    @property
    def waiting(self) -> bool:
        """Whether the relay owes an answer."""
        return bool(self._awaited)

    # --- what the relay says ---------------------------------------------------------------------

    def _on_reset(self, code: int, text: bytes) -> None:
        if not 200 <= code < 300:
            cause = Cause.CLOSING if code == 421 else Cause.CONFUSED
            self.lose(cause, f"RSET was answered {code} {printable(text)}")
        elif self._script:
            self._step()

    def _on_mail(self, code: int, text: bytes) -> None:
        self._heard = True
        if 200 <= code < 300 or self._refuse(MAIL, code, text):
            self.stage = RCPT
            if self._script:
                self._step()

    def _on_rcpt(self, code: int, text: bytes) -> None:
        if 200 <= code < 300 or self._refuse(RCPT, code, text):
            self.stage = DATA
            if self._script:
                self._step()

    def _on_data(self, code: int, text: bytes) -> None:
        if code != 354:
            if self._refuse(DATA, code, text):
                self._turn_to_next()
        elif self.refusal is None:
            self.resume()
        elif self.refusal.stage is RCPT:
            # RFC 2920 §3.1: no recipient stands, yet the relay waits for content.
            self._awaited.append(self._on_empty)
            self._line.write(b".\r\n")
        else:
            self.lose(Cause.CONFUSED, "the relay asked for content after it had refused the sender")

    def _on_empty(self, code: int, text: bytes) -> None:
        """The answer to a lone dot: whatever it is, nothing was accepted."""
        if code == 421:
            self.lose(Cause.CLOSING, f"421 {printable(text)}")
        else:
            self._turn_to_next()

    def _on_dot(self, code: int, text: bytes) -> None:
        current = self.current
        assert current is not None
        if 300 <= code < 400 or (code < 300 and not self._line.dot_sent):
            self.lose(Cause.CONFUSED, f"the relay said {code} where the answer to the dot was due")
            return
        early = not self._line.dot_sent
        self._desk.settle(current, Reply(DOT, code, printable(text)))
        following, self.following = self.following, None
        overtaken = following is None and self._awaited
        if code == 421 or early or self._stopping or overtaken:
            self.current, self.following = None, following
            self._leave_after_dot(code)
        elif following is None:
            self.current = None
            self.begin()
        else:
            self._adopt(following)

    def _on_quit(self, code: int, text: bytes) -> None:
        self.lose(Cause.QUIT, f"{code} {printable(text)}")

    # --- steps -----------------------------------------------------------------------------------

    def _send_content(self, ticket: Ticket) -> None:
        """The one place where content leaves: 354 read, granted, in time, not draining (`resume`)."""
        self._awaited.append(self._on_dot)
        self.stage = DOT
        self.following = following = self._take() if self._offer.pipelining else None
        content = ticket.content + (b".\r\n" if ticket.content.endswith(b"\r\n") else b"\r\n.\r\n")
        if following is None:
            self._line.write_content(content, b"")
            return
        mail, rcpt = write_commands(following.parcel.envelope, following.content, self._offer)
        self._awaited.extend(self._group)
        self._line.write_content(content, b"%b%bDATA\r\n" % (mail, rcpt))

    def _take(self) -> Ticket | None:
        """The next letter that may be offered to this relay, the fence asked for it."""
        while self._allowance > 0 and not self._stopping:
            ticket = self._desk.take()
            if ticket is None:
                return None
            ticket.content = content = ticket.parcel.content
            objection = find_objection(ticket.parcel.envelope, content, self._offer)
            if objection is None:
                self._allowance -= 1
                self._desk.ask(ticket)
                return ticket
            self._desk.settle(ticket, objection)
        return None

    def _adopt(self, ticket: Ticket) -> None:
        self.current = ticket
        self.refusal = None
        self.stage = MAIL
        self._heard = False
        self._begun += 1

    def _step(self) -> None:
        command, heard = self._script.popleft()
        self._awaited.append(heard)
        self._line.write(command)

    def _refuse(self, stage: Stage, code: int, text: bytes) -> bool:
        """Keep the first refusal. True: more answers about this letter are due, or DATA was the last."""
        if code < 400:
            self.lose(Cause.CONFUSED, f"the relay answered {stage.upper()} with {code}")
            return False
        if self.refusal is None:
            self.refusal = Reply(stage, code, printable(text))
        if code == 421:
            self.lose(Cause.CLOSING, f"421 {printable(text)}")
            return False
        if self._script:
            self._script.clear()
            self._turn_to_next()
            return False
        return True

    def _turn_to_next(self) -> None:
        """The current letter was refused and its transaction may still be open."""
        current, refusal = self.current, self.refusal
        assert current is not None
        assert refusal is not None
        self.current = None
        self._desk.settle(current, refusal)
        self._unclean = True
        self.begin()

    def _leave_after_dot(self, code: int) -> None:
        if code == 421:
            self.lose(Cause.CLOSING, "421 to the dot")
        elif self.following is None and self._awaited:
            self.lose(Cause.OVERTAKEN, "its next letter went another way meanwhile")
        elif self._stopping and self.following is None:
            self.quit()
        elif self._stopping:
            self.lose(Cause.DRAINED, "the relay's pool is draining")
        else:
            self.lose(Cause.CONFUSED, "the relay answered before the content had ended")

    def _part_with(self, ticket: Ticket, cause: Cause, reason: str) -> None:
        if self.stage is DOT:
            dot_sent = self._line.dot_sent
            self._desk.settle(ticket, Lost(DOT if dot_sent else DATA, dot_sent, reason))
        elif self.refusal is not None:
            self._desk.settle(ticket, self.refusal)
        elif cause is Cause.DRAINED:
            self._desk.give_back(ticket)
        elif not self._heard and self._begun > 1 and cause in SILENT and not ticket.returned:
            # A kept connection that the relay had closed by itself says nothing about this letter.
            ticket.returned = True
            self._desk.give_back(ticket)
        else:
            self._desk.settle(ticket, Lost(self.stage, False, reason))
