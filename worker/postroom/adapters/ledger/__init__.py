"""The delivery ledger on SQLite: one writing process a file, group commit, synchronous FULL."""
