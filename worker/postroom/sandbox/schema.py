"""The sandbox's database: its tables, and how an older file becomes a current one.

`PRAGMA user_version` counts the steps a file has taken; opening it takes the missing ones, each in its own
transaction, so that a step that fails leaves the file as it was. A file from a newer Postroom is refused.
"""

import sqlite3
from pathlib import Path

STEPS = (
    """
    CREATE TABLE letters (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      received_at INTEGER NOT NULL,
      mail_from TEXT NOT NULL,
      recipients TEXT NOT NULL,
      sender TEXT NOT NULL,
      subject TEXT NOT NULL,
      message_id TEXT NOT NULL,
      date TEXT NOT NULL,
      template TEXT NOT NULL,
      revision TEXT NOT NULL,
      size INTEGER NOT NULL,
      attachments INTEGER NOT NULL,
      read INTEGER NOT NULL DEFAULT 0,
      peer TEXT NOT NULL,
      deleted_at INTEGER,
      indexed INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE contents (
      id INTEGER PRIMARY KEY REFERENCES letters (id) ON DELETE CASCADE,
      raw BLOB NOT NULL
    );
    CREATE INDEX letters_by_message_id ON letters (message_id);
    CREATE INDEX letters_deleted ON letters (deleted_at) WHERE deleted_at IS NOT NULL;
    CREATE INDEX letters_unread ON letters (id) WHERE read = 0 AND deleted_at IS NULL;
    CREATE INDEX letters_unindexed ON letters (id) WHERE indexed = 0;
    """,
)

_WORDS = """
    CREATE VIRTUAL TABLE IF NOT EXISTS words
    USING fts5 (subject, sender, recipients, template, body, tokenize = 'unicode61 remove_diacritics 2')
"""


class NewerDatabase(Exception):
    """The file was written by a newer Postroom than this one."""


def connect(path: Path) -> sqlite3.Connection:
    """Open the file for writing: WAL, and durable at each commit."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")
    return connection


def connect_for_reading(path: Path) -> sqlite3.Connection:
    """Open the file so that no statement can change it."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA query_only = ON")
    return connection


def migrate(connection: sqlite3.Connection) -> bool:
    """Bring the file up to date; returns whether full-text search (FTS5) is there."""
    (done,) = connection.execute("PRAGMA user_version").fetchone()
    if done > len(STEPS):
        raise NewerDatabase(
            f"the sandbox's database has schema {done}, this Postroom knows {len(STEPS)}: "
            "start the newer Postroom, or name another file in POSTROOM_SANDBOX_DATABASE"
        )
    for number, step in enumerate(STEPS[done:], start=done + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {step}; PRAGMA user_version = {number}; COMMIT;")
    try:
        connection.execute(_WORDS)
    except sqlite3.OperationalError:
        return False
    return True
