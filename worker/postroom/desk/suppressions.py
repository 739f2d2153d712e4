"""The suppression list on a terminal, and as plain values. Addresses are masked unless they are asked for."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from postroom.letter.address import mask_address, mask_addresses
from postroom.ports.suppression import Suppression

ERASED = "(erased)"


def table(found: Sequence[Suppression], reveal: bool) -> Table:
    """A line an entry."""
    lines = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("since", "profile", "reason", "address"):
        lines.add_column(name, no_wrap=True)
    lines.add_column("note", overflow="fold")
    for one in found:
        told = as_dict(one, reveal)
        row = (
            f"{one.at:%Y-%m-%d %H:%M}",
            one.profile,
            one.reason.value,
            told["address"] or ERASED,
            told["note"],
        )
        lines.add_row(*map(Text, row))
    return lines


def as_dict(one: Suppression, reveal: bool) -> dict[str, Any]:
    """Plain values."""
    address = one.address if reveal or one.address is None else mask_address(one.address)
    note = one.note if reveal else mask_addresses(one.note)
    at = one.at.isoformat()
    return {"profile": one.profile, "address": address, "reason": one.reason.value, "at": at, "note": note}
