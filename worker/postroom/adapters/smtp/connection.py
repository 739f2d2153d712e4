"""One open connection: the wire, the replies it brings, the dialogue, and the patience with the relay."""

from typing import Protocol

from postroom.adapters.smtp.counters import Cause, Counters
from postroom.adapters.smtp.dialogue import Dialogue
from postroom.adapters.smtp.opening import Opened
from postroom.adapters.smtp.settings import RelaySettings
from postroom.adapters.smtp.sides import Desk
from postroom.adapters.smtp.wire import Wire
from postroom.ports.relay import Stage


class Post(Desk, Protocol):
    """The desk, and who keeps the connections."""

    counters: Counters

    def rested(self, connection: "Connection") -> None: ...
    def ended(self, connection: "Connection", cause: Cause, reason: str) -> None: ...


class Connection:
    """The line of a dialogue. Ends by itself and says so to its post, once."""

    def __init__(self, opened: Opened, post: Post, settings: RelaySettings) -> None:
        self._opened = opened
        self._post = post
        self._patience = settings.patience
        self._heard_at = post.now()
        self._wire = Wire(opened.channel, self)
        self.dialogue = Dialogue(self, post, opened.offer, settings.messages_per_connection)

    def start(self) -> None:
        """Begin with the first letter, unless the relay has something to say unasked."""
        for code, text in self._opened.channel.early:
            if not self.dialogue.over:
                self.dialogue.hear(code, text)
        if not self.dialogue.over:
            self.dialogue.begin()

    # --- the wire's reader -----------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take bytes of the relay."""
        dialogue, replies = self.dialogue, self._opened.channel.replies
        self._heard_at = self._post.now()
        for code, text in replies.feed(data):
            dialogue.hear(code, text)
            if dialogue.over:
                return
        if replies.fault is not None:
            dialogue.lose(Cause.CONFUSED, replies.fault)

    def broken(self, cause: Cause, reason: str) -> None:
        """Take note that the wire is gone."""
        if not self.dialogue.over:
            self.dialogue.lose(cause, reason)

    # --- the dialogue's line ---------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send commands; the relay's time to answer begins."""
        self._heard_at = self._post.now()
        self._wire.write(data)

    def write_content(self, content: bytes, following: bytes) -> None:
        """Send a letter and the commands after it."""
        counters = self._post.counters
        counters.letters += 1
        counters.pipelined += following != b""
        self._wire.write_content(content, following)

    @property
    def dot_sent(self) -> bool:
        """Whether the dot was handed to the socket."""
        return self._wire.dot_sent

    def rest(self) -> None:
        """Wait for letters."""
        self._post.rested(self)

    def hang_up(self, cause: Cause, reason: str) -> None:
        """Close, and tell the post."""
        self._wire.close()
        self._post.ended(self, cause, reason)

    # --- the sweep -------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """End the connection when the relay's answer is overdue, or nobody needed it for long."""
        if self._wire.progressed():
            self._heard_at = now
        silent = now - self._heard_at
        if self.dialogue.resting:
            if silent > self._patience.idle:
                self.dialogue.quit()
        elif self.dialogue.waiting and silent > self._limit():
            self.dialogue.lose(Cause.DEADLINE, f"no answer to {self._question()} within {self._limit():g} s")

    def let_go(self, now: float) -> None:
        """Give back the letter, if there is one, that has waited long behind the relay's answer."""
        if self.dialogue.stage is Stage.DOT and now - self._heard_at > self._patience.behind:
            self.dialogue.let_go()

    def _limit(self) -> float:
        patience, dialogue = self._patience, self.dialogue
        if dialogue.current is None:
            return patience.quit
        if dialogue.stage is Stage.DOT:
            return patience.dot if self.dot_sent else patience.block
        return patience.data if dialogue.stage is Stage.DATA else patience.command

    def _question(self) -> str:
        return "QUIT" if self.dialogue.current is None else self.dialogue.stage.upper()
