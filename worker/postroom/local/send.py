"""Follow a letter that was handed to the gateway: to its final state in the ledger, then into the inbox.

Input: the ledger of its profile and its id, then its Message-ID. Output: its row, and the inbox's own
summary of it. A letter that is late is returned as it is when the time is over.

`postroom send`: hand one message to the gateway that runs on this machine, or to the one that is named.

Input: an event type, a recipient, data as `name=text`, `name:=json` or a file. Output: the id under which
the message was accepted. Failure: `Trouble` that says which rule was broken, or what to start first.
"""

import asyncio
import contextlib
import json
import re
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from postroom.adapters.ledger.reader import FileLedgerReader, LetterView
from postroom.local import http_client
from postroom.local.data_folder import DataFolder
from postroom.local.errors import UserError

ARRIVAL_SECONDS = 60.0
"""How long a letter may take until it is settled."""
INBOX_SECONDS = 10.0
POLL_SECONDS = 0.1
SAMPLE_RECIPIENT = "reader@example.org"
"""The recipient of a sample that has none of its own."""
SUCCESS_STATES = frozenset({"captured", "accepted"})
FINAL_STATES = SUCCESS_STATES | {"failed", "render_failed", "expired", "suppressed", "in_doubt"}


def rejection_lines(answer: http_client.HttpResponse) -> tuple[str, ...]:
    """Why the gateway did not accept a message, one line for each rule."""
    errors = answer.body.get("errors", []) if isinstance(answer.body, dict) else []
    return tuple(f"{e['pointer']}: {e['detail']} ({e['code']})" for e in errors) or (answer.detail,)


async def wait_until_final(
    ledger: Path, event_id: str, seconds: float = ARRIVAL_SECONDS
) -> LetterView | None:
    """The letter's row once it is final, or as it is when the time is over."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        letter = await asyncio.to_thread(_read_letter, ledger, event_id)
        if letter is not None and letter.state in FINAL_STATES:
            return letter
        if asyncio.get_running_loop().time() > deadline:
            return letter
        await asyncio.sleep(POLL_SECONDS)


async def wait_in_inbox(inbox: str, message_id: str) -> http_client.HttpResponse:
    """The inbox's answer about the letter; waits for it. Raises `client.Unanswered`."""
    query = urlencode({"message_id": message_id, "timeout": INBOX_SECONDS})
    return await asyncio.to_thread(http_client.get, f"{inbox}/api/v1/wait?{query}", INBOX_SECONDS + 5)


def letter_reason(letter: LetterView) -> str:
    """Why a letter is where it is; the code once, also where the words hold it already."""
    words, code = letter.reason or "", letter.code or ""
    return words if code in words else ": ".join(part for part in (code, words) if part)


def _read_letter(ledger: Path, event_id: str) -> LetterView | None:
    try:
        with FileLedgerReader(ledger) as reader:
            return next(iter(reader.find(event_id, 1)), None)
    except sqlite3.Error:  # its worker is being started again at this very moment; the next look sees it
        return None


@dataclass(frozen=True, slots=True)
class AcceptedMessage:
    """What the gateway said: the message's id, and where the inbox is when it is known."""

    id: str
    profile: str
    inbox: str | None
    existing_state: str | None = None
    """The state of the letter that was on record under this id before: it is not sent again."""


def gather_data(pairs: Iterable[str], file: Path | None) -> dict[str, Any]:
    """The event's data from a JSON file and from pairs, which win; raises Trouble."""
    data = _read_json_file(file) if file else {}
    for pair in pairs:
        name, value = parse_pair(pair)
        data[name] = value
    return data


def parse_pair(pair: str) -> tuple[str, Any]:
    """`name=text` or `name:=json`; raises Trouble."""
    name, sign, text = pair.partition("=")
    if not sign or not name.rstrip(":"):
        raise UserError(
            f"{pair!r} is not data.", "Write name=text, or name:=json for numbers, lists and the like."
        )
    if not name.endswith(":"):
        return name, text
    try:
        return name[:-1], json.loads(text)
    except ValueError as error:
        raise UserError(
            f"{pair!r}: what follows := is not JSON ({error}).", f"For text write {name[:-1]}={text}"
        ) from None


def send_message(
    message: Mapping[str, Any], gateway: str | None, data: Path, profile: str | None = None
) -> AcceptedMessage:
    """Hand a message in; raises Trouble."""
    running = DataFolder(data).addresses()
    address = gateway or (running.gateway if running else None)
    if address is None:
        raise UserError(
            f"Nothing runs on the data folder {data}.",
            "Start it with `postroom up` in another terminal, or name a gateway: --gateway http://HOST:PORT",
        )
    local = running is not None and not gateway
    known = _existing_states(DataFolder(data), message) if local else {}
    url = f"{address.rstrip('/')}/v1/messages" + (f"?profile={profile}" if profile else "")
    try:
        answer = http_client.post(url, message)
    except http_client.RequestFailed as reason:
        raise UserError(f"The gateway is not there: {reason}.", "Is `postroom up` still running?") from None
    if not answer.ok:
        raise _rejection(answer)
    inbox = running.inbox if running and not gateway else None
    served = str(answer.body.get("profile", ""))
    return AcceptedMessage(str(answer.body["id"]), served, inbox, known.get(served))


def _existing_states(folder: DataFolder, message: Mapping[str, Any]) -> dict[str, str]:
    """The state by profile of letters that have the message's id and recipient already."""
    wanted = message.get("message_id")
    if not wanted:
        return {}
    found = {}
    for path in folder.ledgers():
        with contextlib.suppress(sqlite3.Error), FileLedgerReader(path) as ledger:
            for letter in ledger.find(str(wanted)):
                same = letter.recipient.casefold() == str(message["recipient"]).casefold()
                if letter.event_id == wanted and same:
                    found[letter.profile.rpartition("/")[2]] = letter.state
    return found


def remedy_for(error: Mapping[str, str]) -> str:
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


def _rejection(answer: http_client.HttpResponse) -> UserError:
    errors = answer.body.get("errors") if isinstance(answer.body, dict) else None
    if not errors:
        return UserError(f"The gateway did not accept it: {answer.detail}")
    lines = []
    for error in errors:
        remedy = remedy_for(error)
        line = f"  {error['pointer'] or '/'}: {error['detail']} ({error['code']})"
        lines.append(f"{line}; {remedy}" if remedy else line)
    return UserError("The message is refused:\n" + "\n".join(lines))


def _read_json_file(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise UserError(f"{file} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise UserError(f"{file} holds no JSON object.", 'The data is an object: {"name": "Mira"}')
    return value
