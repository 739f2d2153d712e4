"""`postroom send`: hand one message to the gateway that runs on this machine, or to the one that is named.

Input: an event type, a recipient, data as `name=text`, `name:=json` or a file. Output: the id under which
the message was accepted. Failure: `Trouble` that says which rule was broken, or what to start first.
"""

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postroom.adapters.ledger.reader import LedgerReader
from postroom.local import client
from postroom.local.folder import DataFolder
from postroom.local.trouble import Trouble


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the gateway said: the message's id, and where the inbox is when it is known."""

    id: str
    profile: str
    inbox: str | None
    known: str | None = None
    """The state of the letter that was on record under this id before: it is not sent again."""


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
    local = running is not None and not gateway
    known = _on_record(DataFolder(data), message) if local else {}
    url = f"{address.rstrip('/')}/v1/messages" + (f"?profile={profile}" if profile else "")
    try:
        answer = client.post(url, message)
    except client.Unanswered as reason:
        raise Trouble(f"The gateway is not there: {reason}.", "Is `postroom up` still running?") from None
    if not answer.ok:
        raise _refused(answer)
    inbox = running.inbox if running and not gateway else None
    served = str(answer.body.get("profile", ""))
    return Accepted(str(answer.body["id"]), served, inbox, known.get(served))


def _on_record(folder: DataFolder, message: Mapping[str, Any]) -> dict[str, str]:
    """The state by profile of letters that have the message's id and recipient already."""
    wanted = message.get("message_id")
    if not wanted:
        return {}
    found = {}
    for path in folder.ledgers():
        with contextlib.suppress(sqlite3.Error), LedgerReader(path) as ledger:
            for letter in ledger.find(str(wanted)):
                same = letter.recipient.casefold() == str(message["recipient"]).casefold()
                if letter.event_id == wanted and same:
                    found[letter.profile.rpartition("/")[2]] = letter.state
    return found


def way_out(error: Mapping[str, str]) -> str:
    """What to write on the command line instead, where a variable is missing or is a text by mistake."""
    top, _, rest = error["pointer"].removeprefix("/data/").partition("/")
    if not error["pointer"].startswith("/data/"):
        return ""
    if error["code"] == "variable_missing":
        return f"add {top}=…" if not rest else f"{top} is written as JSON: {top}:=…"
    wanted = re.search(r'is not of type "(number|integer|boolean|array|object|string)"', error["detail"])
    if error["code"] != "variable_invalid" or not wanted or rest:
        return ""
    return {
        "string": f"for a text write {top}=…",
        "number": f"for a number write {top}:=3",
        "integer": f"for a number write {top}:=3",
        "boolean": f"for yes or no write {top}:=true",
        "array": f"for a list write {top}:='[…]'",
        "object": f"for an object write {top}:='{{…}}'",
    }[wanted[1]]


def _refused(answer: client.Answer) -> Trouble:
    errors = answer.body.get("errors") if isinstance(answer.body, dict) else None
    if not errors:
        return Trouble(f"The gateway did not accept it: {answer.detail}")
    lines = []
    for error in errors:
        remedy = way_out(error)
        line = f"  {error['pointer'] or '/'}: {error['detail']} ({error['code']})"
        lines.append(f"{line}; {remedy}" if remedy else line)
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
