"""Whose letters a statement is about, where a database holds those of several profiles."""

from typing import Any

from sqlalchemy import ColumnElement, literal, true

from postroom.adapters.ledger.schema import letter


def ours(profile: Any) -> ColumnElement[bool]:
    """Letters of this profile (a text, or a parameter); of every profile where it is None."""
    if profile is None:
        return true()
    wanted = literal(profile) if isinstance(profile, str) else profile
    return wanted.is_(None) | (letter.c.profile == wanted)
