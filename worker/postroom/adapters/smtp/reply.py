"""Parses SMTP replies from a stream of bytes (RFC 5321 §4.2).

In: bytes in pieces of any size. Out: complete replies as `(code, text)`; the lines of a multi-line reply are
joined by newlines.

Failure: bytes that are no reply set `error` and end the parsing; the replies before them are valid.
"""

MAX_LINE = 4096
"""RFC 5321 §4.5.3.1.5 allows 512; some relays send longer lines."""
MAX_LINES = 256
MAX_TEXT = 512
"""Characters of a reply that are stored."""

_FINAL = {b"%d%b" % (code, end): code for code in range(200, 600) for end in (b" ", b"\r", b"")}
_CONTINUED = {b"%d-" % code: code for code in range(200, 600)}


class ReplyReader:
    """Collects replies; keeps an incomplete reply until its other bytes arrive."""

    __slots__ = ("_earlier", "_rest", "error")

    def __init__(self) -> None:
        self._rest = b""
        self._earlier: list[tuple[int, bytes]] = []
        self.error: str | None = None

    @property
    def pending(self) -> bool:
        """Whether bytes beyond the last complete reply were read."""
        return bool(self._rest or self._earlier or self.error)

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Parse more bytes; return the replies that are complete now."""
        lines = (self._rest + data if self._rest else data).split(b"\n")
        self._rest = lines.pop()
        replies: list[tuple[int, bytes]] = []
        for line in lines:
            code = _FINAL.get(line[:4])
            if code is not None and not self._earlier:
                replies.append((code, line[4:]))
            elif not self._join(code, line, replies):
                return replies
        if len(self._rest) > MAX_LINE:
            self._reject(self._rest)
        return replies

    def _join(self, code: int | None, line: bytes, replies: list[tuple[int, bytes]]) -> bool:
        """Add a line of a multi-line reply; False when the line is invalid."""
        number = _CONTINUED.get(line[:4]) if code is None else code
        earlier = self._earlier
        if number is None or (earlier and earlier[0][0] != number) or len(earlier) >= MAX_LINES:
            self._reject(line)
            return False
        earlier.append((number, line[4:].rstrip(b"\r")))
        if code is not None:
            replies.append((code, b"\n".join(text for _, text in earlier)))
            self._earlier = []
        return True

    def _reject(self, line: bytes) -> None:
        self.error = f"the relay sent an invalid SMTP reply: {printable(line[:60])!r}"
        self._rest = b""
        self._earlier = []


def printable(text: bytes) -> str:
    """The text of a reply for logs and the ledger: one line, printable, at most `MAX_TEXT` characters."""
    plain = text.strip().decode("utf-8", "replace")
    if plain.isprintable():
        return plain[:MAX_TEXT]
    spaced = plain.replace("\r\n", " ").replace("\n", " ").replace("\t", " ")
    return "".join(c if c.isprintable() else "?" for c in spaced[:MAX_TEXT])
