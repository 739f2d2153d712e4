"""SMTP replies out of a stream of bytes (RFC 5321 §4.2).

Bytes in, however they are cut → complete replies out, as `(code, text)`; the lines of a long reply are
joined by a newline. What is not a reply ends the reading: `fault` says why, replies read before it count.
"""

MAX_LINE = 4096
"""RFC 5321 §4.5.3.1.5 says 512; some relays write longer ones."""
MAX_LINES = 256
MAX_TEXT = 512
"""Characters of a reply that are kept."""

_FINAL = {b"%d%b" % (code, end): code for code in range(200, 600) for end in (b" ", b"\r", b"")}
_CONTINUED = {b"%d-" % code: code for code in range(200, 600)}


class ReplyReader:
    """Collects replies; keeps half a reply until the rest comes."""

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
        """Take bytes, give the replies that are complete now."""
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
        """Take a line of a reply that has several; False: it is none."""
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
        self.error = f"the relay sent what is no SMTP reply: {printable(line[:60])!r}"
        self._rest = b""
        self._earlier = []


def printable(text: bytes) -> str:
    """The text of a reply for people and records: one line, printable, at most `MAX_TEXT` characters."""
    plain = text.strip().decode("utf-8", "replace")
    if plain.isprintable():
        return plain[:MAX_TEXT]
    spaced = plain.replace("\r\n", " ").replace("\n", " ").replace("\t", " ")
    return "".join(c if c.isprintable() else "?" for c in spaced[:MAX_TEXT])
