"""`postroom send`: submit a message to the gateway, and follow its letter to the ledger and the inbox.

Input: an event type, a recipient, data as `name=text`, `name:=json` or a JSON file; the running gateway, or
the gateway that the user names. Output: the id under which the gateway accepted the message; for
`wait_until_final` the letter's row in the ledger, for `wait_in_inbox` the inbox's summary of the letter.
Failure: `UserError` that names the broken rule, or the program to start first.
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
"""Time limit until a letter reaches a final state."""
INBOX_SECONDS = 10.0
POLL_SECONDS = 0.1
SAMPLE_RECIPIENT = "reader@example.org"
"""The recipient for samples that name none."""
SUCCESS_STATES = frozenset({"captured", "accepted"})
FINAL_STATES = SUCCESS_STATES | {"failed", "render_failed", "expired", "suppressed", "in_doubt"}


def rejection_lines(answer: http_client.HttpResponse) -> tuple[str, ...]:
    """Return one line for each rule for which the gateway rejected a message."""
    errors = answer.body.get("errors", []) if isinstance(answer.body, dict) else []
    return tuple(f"{e['pointer']}: {e['detail']} ({e['code']})" for e in errors) or (answer.detail,)


async def wait_until_final(
    ledger: Path, event_id: str, seconds: float = ARRIVAL_SECONDS
) -> LetterView | None:
    """Poll the ledger until the letter is final; returns its row, at the deadline in whatever state it is."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        letter = await asyncio.to_thread(_read_letter, ledger, event_id)
        if letter is not None and letter.state in FINAL_STATES:
            return letter
        if asyncio.get_running_loop().time() > deadline:
            return letter
        await asyncio.sleep(POLL_SECONDS)


async def wait_in_inbox(inbox: str, message_id: str) -> http_client.HttpResponse:
    """Wait until the inbox has the letter; returns its response. Raises `http_client.RequestFailed`."""
    query = urlencode({"message_id": message_id, "timeout": INBOX_SECONDS})
    return await asyncio.to_thread(http_client.get, f"{inbox}/api/v1/wait?{query}", INBOX_SECONDS + 5)


def letter_reason(letter: LetterView) -> str:
    """Return the problem code and the reason of a letter's state, without repeating the code."""
    text, code = letter.reason or "", letter.code or ""
    return text if code in text else ": ".join(part for part in (code, text) if part)


def _read_letter(ledger: Path, event_id: str) -> LetterView | None:
    try:
        with FileLedgerReader(ledger) as reader:
            return next(iter(reader.find(event_id, 1)), None)
    except sqlite3.Error:  # its worker is restarting; the next poll reads it
        return None


@dataclass(frozen=True, slots=True)
class AcceptedMessage:
    """The gateway's response: the message's id and profile, and the inbox's address when it is known."""

    id: str
    profile: str
    inbox: str | None
    existing_state: str | None = None
    """The state of a letter that the ledger already has under this id; it is not sent again."""


def gather_data(pairs: Iterable[str], file: Path | None) -> dict[str, Any]:
    """Merge the event's data from a JSON file and from pairs; pairs win. Raises UserError."""
    data = _read_json_file(file) if file else {}
    for pair in pairs:
        name, value = parse_pair(pair)
        data[name] = value
    return data


def parse_pair(pair: str) -> tuple[str, Any]:
    """Parse `name=text` or `name:=json`; raises UserError."""
    name, sign, text = pair.partition("=")
    if not sign or not name.rstrip(":"):
        raise UserError(
            f"{pair!r} is not name=value.", "Write name=text, or name:=json for numbers, lists and objects."
        )
    if not name.endswith(":"):
        return name, text
    try:
        return name[:-1], json.loads(text)
    except ValueError as error:
        raise UserError(
            f"{pair!r}: the value after := is not JSON ({error}).", f"For text write {name[:-1]}={text}"
        ) from None


def send_message(
    message: Mapping[str, Any], gateway: str | None, data: Path, profile: str | None = None
) -> AcceptedMessage:
    """Submit a message to the gateway; raises UserError."""
    running = DataFolder(data).addresses()
    address = gateway or (running.gateway if running else None)
    if address is None:
        raise UserError(
            f"No `postroom up` runs on the data folder {data}.",
            "Start `postroom up` in another terminal, or name a gateway: --gateway http://HOST:PORT",
        )
    local = running is not None and not gateway
    known = _existing_states(DataFolder(data), message) if local else {}
    url = f"{address.rstrip('/')}/v1/messages" + (f"?profile={profile}" if profile else "")
    try:
        answer = http_client.post(url, message)
    except http_client.RequestFailed as reason:
        raise UserError(
            f"The gateway cannot be reached: {reason}.", "Check that `postroom up` is still running."
        ) from None
    if not answer.ok:
        raise _rejection(answer)
    inbox = running.inbox if running and not gateway else None
    served = str(answer.body.get("profile", ""))
    return AcceptedMessage(str(answer.body["id"]), served, inbox, known.get(served))


def _existing_states(folder: DataFolder, message: Mapping[str, Any]) -> dict[str, str]:
    """Return profile → state of the letters that already have the message's id and recipient."""
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
    """Return what to write on the command line when a variable is missing or has the wrong type."""
    top, _, rest = error["pointer"].removeprefix("/data/").partition("/")
    if not error["pointer"].startswith("/data/"):
        return ""
    if error["code"] == "variable_missing":
        return f"add {top}=…" if not rest else f"write {top} as JSON: {top}:=…"
    wanted = re.search(r'is not of type "(number|integer|boolean|array|object|string)"', error["detail"])
    if error["code"] != "variable_invalid" or not wanted or rest:
        return ""
    return {
        "string": f"for text write {top}=…",
        "number": f"for a number write {top}:=3",
        "integer": f"for a number write {top}:=3",
        "boolean": f"for a boolean write {top}:=true",
        "array": f"for a list write {top}:='[…]'",
        "object": f"for an object write {top}:='{{…}}'",
    }[wanted[1]]


def _rejection(answer: http_client.HttpResponse) -> UserError:
    errors = answer.body.get("errors") if isinstance(answer.body, dict) else None
    if not errors:
        return UserError(f"The gateway rejected the message: {answer.detail}")
    lines = []
    for error in errors:
        remedy = remedy_for(error)
        line = f"  {error['pointer'] or '/'}: {error['detail']} ({error['code']})"
        lines.append(f"{line}; {remedy}" if remedy else line)
    return UserError("The gateway rejected the message:\n" + "\n".join(lines))


def _read_json_file(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise UserError(f"{file} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise UserError(f"{file} is not a JSON object.", 'Write the data as an object: {"name": "Mira"}')
    return value
