"""`replay --to-sandbox`: a dead letter as it would be today, sent to the sandbox and to nobody else.

In: dead letters, and the live templates of their profiles. Out: for each whether the sandbox took it, or why
not. No topic and no ledger is touched, and nothing is connected to but a server that greets as the sandbox
does: a letter stays as it is, and can be replayed in earnest afterwards.
"""

import smtplib
import socket
from collections.abc import Sequence
from datetime import datetime

from postroom.adapters.templates import FolderTemplates
from postroom.delivery.programs.rules import house_of
from postroom.delivery.render import render_one
from postroom.delivery.validate import read
from postroom.desk.deadletters import DeadLetter
from postroom.desk.place import Place, Served
from postroom.desk.replay import Fate
from postroom.letter.problems import Rejected
from postroom.local.trouble import Trouble
from postroom.ports.ledger import Letter, State
from postroom.sandbox.mta import GREETING
from postroom.web import Endpoint, read_endpoint

PATIENCE_SECONDS = 10.0


class _Room:
    """A profile's rules and templates, read once."""

    def __init__(self, served: Served) -> None:
        self.topic = served.topic
        self.house = house_of(served.profile, State.CAPTURED)
        templates = FolderTemplates(served.bundles)
        templates.refresh()
        self.catalog = templates.current()


def rehearse(place: Place, wanted: Sequence[DeadLetter], now: datetime) -> list[Fate]:
    """Send each to the sandbox; raises Trouble when that cannot be reached, or is none."""
    rooms = {room.topic: room for room in map(_Room, place.served)}
    if not wanted:
        return []
    with _sandbox(place.sandbox) as server:
        return [Fate(one, _send(server, one, rooms.get(one.record.topic), now)) for one in wanted]


def _send(server: smtplib.SMTP, one: DeadLetter, room: _Room | None, now: datetime) -> str:
    if room is None:
        return f"the templates of {one.record.topic} are not here: name --profile-file and --bundles"
    if one.omitted:
        return "its content is on no topic any more"
    try:
        letter = read(one.as_replay(), room.house.profile)
    except Rejected as rejected:
        return str(rejected.problems[0])
    outcome = render_one(letter, room.catalog, room.house, now)
    if outcome is not None:
        return str(getattr(outcome, "problem", outcome))
    return _hand_over(server, letter)


def _hand_over(server: smtplib.SMTP, letter: Letter) -> str:
    assert letter.envelope is not None
    steps = (f"MAIL FROM:<{letter.envelope.sender}>", f"RCPT TO:<{letter.envelope.recipient}>", "DATA")
    if letter.envelope.smtputf8:
        steps = (f"{steps[0]} SMTPUTF8", *steps[1:])
        server.command_encoding = "utf-8"
    for step in steps:
        code, said = server.docmd(step)
        if code >= 400:
            server.rset()
            return f"the sandbox answered {code} {said.decode(errors='replace')}"
    server.send(letter.content + b".\r\n")  # the content is dot-stuffed already
    code, said = server.getreply()
    return "" if code == 250 else f"the sandbox answered {code} {said.decode(errors='replace')}"


def _sandbox(where: str) -> smtplib.SMTP:
    try:
        endpoint = read_endpoint(where)
    except ValueError as error:
        raise Trouble(f"--sandbox: {error}") from None
    assert isinstance(endpoint, Endpoint)
    server = smtplib.SMTP(timeout=PATIENCE_SECONDS, local_hostname=socket.gethostname())
    try:
        _, greeting = server.connect(endpoint.host, endpoint.port)
        if GREETING.encode() not in greeting:
            server.close()
            raise Trouble(
                f"{where} is no sandbox of Postroom: nothing was sent.", "Name the sandbox: --sandbox"
            )
        server.ehlo()
    except (OSError, smtplib.SMTPException) as error:
        raise Trouble(f"The sandbox at {where} does not answer: {error}.") from None
    return server
