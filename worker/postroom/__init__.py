"""Postroom: an event becomes a letter, once, and what became of it is on record."""
