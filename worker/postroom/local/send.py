"""`postroom send`: hand one message to the gateway that runs on this machine, or to the one that is named.

Input: an event type, a recipient, data as `name=text`, `name:=json` or a file. Output: the id under which
the message was accepted. Failure: `Trouble` that says which rule was broken, or what to start first.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postroom.local import client
from postroom.local.folder import DataFolder
from postroom.local.trouble import Trouble


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the gateway said: the message's id, and where the inbox is when it is known."""

    id: str
    profile: str
    inbox: str | None


def gather_data(pairs: Iterable[str], file: Path | None) -> dict[str, Any]:
    """The event's data from a JSON file and from pairs, which win; raises Trouble."""
    data = _read(file) if file else {}
    for pair in pairs:
        name, value = read_pair(pair)
        data[name] = value
    return data


def read_pair(pair: str) -> tuple[str, Any]:
    """`name=text` or `name:=json`; raises Trouble."""
    name, sign, text = pair.partition("=")
    if not sign or not name.rstrip(":"):
        raise Trouble(
            f"{pair!r} is not data.", "Write name=text, or name:=json for numbers, lists and the like."
        )
    if not name.endswith(":"):
        return name, text
    try:
        return name[:-1], json.loads(text)
    except ValueError as error:
        raise Trouble(
            f"{pair!r}: what follows := is not JSON ({error}).", f"For text write {name[:-1]}={text}"
        ) from None


def send(message: Mapping[str, Any], gateway: str | None, data: Path, profile: str | None = None) -> Accepted:
    """Hand a message in; raises Trouble."""
    running = DataFolder(data).addresses()
    address = gateway or (running.gateway if running else None)
    if address is None:
        raise Trouble(
            f"Nothing runs on the data folder {data}.",
            "Start it with `postroom up` in another terminal, or name a gateway: --gateway http://HOST:PORT",
        )
    url = f"{address.rstrip('/')}/v1/messages" + (f"?profile={profile}" if profile else "")
    try:
        answer = client.post(url, message)
    except client.Unanswered as reason:
        raise Trouble(f"The gateway is not there: {reason}.", "Is `postroom up` still running?") from None
    if not answer.ok:
        raise _refused(answer)
    inbox = running.inbox if running and not gateway else None
    return Accepted(str(answer.body["id"]), str(answer.body.get("profile", "")), inbox)


def _refused(answer: client.Answer) -> Trouble:
    errors = answer.body.get("errors") if isinstance(answer.body, dict) else None
    if not errors:
        return Trouble(f"The gateway did not accept it: {answer.detail}")
    lines = [f"  {error['pointer'] or '/'}: {error['detail']} ({error['code']})" for error in errors]
    return Trouble("The message is refused:\n" + "\n".join(lines))


def _read(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Trouble(f"{file} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise Trouble(f"{file} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise Trouble(f"{file} holds no JSON object.", 'The data is an object: {"name": "Mira"}')
    return value
