"""Follow a letter that was handed to the gateway: to its final state in the ledger, then into the inbox.

Input: the ledger of its profile and its id, then its Message-ID. Output: its row, and the inbox's own
summary of it. A letter that is late is returned as it is when the time is over.
"""

import asyncio
import sqlite3
from pathlib import Path
from urllib.parse import urlencode

from postroom.adapters.ledger.reader import LedgerReader, LetterView
from postroom.local import client

ARRIVAL_SECONDS = 60.0
"""How long a letter may take until it is settled."""
INBOX_SECONDS = 10.0
LOOK_SECONDS = 0.1
READER = "reader@example.org"
"""The recipient of a sample that has none of its own."""
GOOD = frozenset({"captured", "accepted"})
FINAL = GOOD | {"failed", "render_failed", "expired", "suppressed", "in_doubt"}


def broken_rules(answer: client.Answer) -> tuple[str, ...]:
    """Why the gateway did not accept a message, one line for each rule."""
    errors = answer.body.get("errors", []) if isinstance(answer.body, dict) else []
    return tuple(f"{e['pointer']}: {e['detail']} ({e['code']})" for e in errors) or (answer.detail,)


async def settled(ledger: Path, event_id: str, seconds: float = ARRIVAL_SECONDS) -> LetterView | None:
    """The letter's row once it is final, or as it is when the time is over."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        letter = await asyncio.to_thread(_look, ledger, event_id)
        if letter is not None and letter.state in FINAL:
            return letter
        if asyncio.get_running_loop().time() > deadline:
            return letter
        await asyncio.sleep(LOOK_SECONDS)


async def in_inbox(inbox: str, message_id: str) -> client.Answer:
    """The inbox's answer about the letter; waits for it. Raises `client.Unanswered`."""
    query = urlencode({"message_id": message_id, "timeout": INBOX_SECONDS})
    return await asyncio.to_thread(client.get, f"{inbox}/api/v1/wait?{query}", INBOX_SECONDS + 5)


def reason(letter: LetterView) -> str:
    """Why a letter is where it is; the code once, also where the words hold it already."""
    words, code = letter.reason or "", letter.code or ""
    return words if code in words else ": ".join(part for part in (code, words) if part)


def _look(ledger: Path, event_id: str) -> LetterView | None:
    try:
        with LedgerReader(ledger) as reader:
            return next(iter(reader.find(event_id, 1)), None)
    except sqlite3.Error:  # its worker is being started again at this very moment; the next look sees it
        return None
