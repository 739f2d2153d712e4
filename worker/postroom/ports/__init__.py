"""What the programs ask of the world: a relay, a ledger, events, templates, time.

A port speaks the domain and reports facts; it never decides. Adapters implement these, wiring chooses
them, and everything else knows only these pages.
"""
