"""The ledger's schema on PostgreSQL: created, migrated and checked.

Migrations only expand: they add tables and columns and never remove any, so that workers of one release
continue beside those of the next. A schema that a newer release has migrated is used as it is, unless that
release declares (`calendar.floor`) that older releases cannot use it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from postroom.adapters.ledger.postgres_server import (
    error_text,
    invalid_setting,
    is_transient,
    ledger_engine,
    lock_key,
    sqlstate,
    unreachable_errors,
)
from postroom.letter.problems import Rejected

HOME = Path(__file__).parent
VERSION_TABLE = "ledger_version"
INSUFFICIENT_PRIVILEGE = "42501"

_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
_SCHEMA = text("SELECT 1 FROM pg_namespace WHERE nspname = :schema")
_TABLE = text("SELECT to_regclass(:name)")
_FLOOR = text("SELECT floor FROM calendar")


def migrate(url: str, schema: str) -> str:
    """Migrate the ledger to this release's schema; returns one line that describes what was done.

    Safe to run repeatedly and concurrently: runs wait for each other. One transaction. Raises Unreachable
    when the server is away, Rejected when the user lacks a privilege or the schema cannot be migrated.
    """
    ledger = ledger_engine(url, schema)
    try:
        with unreachable_errors(), _allowed(schema), ledger.begin() as connection:
            connection.execute(_LOCK, {"key": lock_key(schema, "migration")})
            return _migrate(connection, schema)
    finally:
        ledger.dispose()


def check(connection: Connection, schema: str) -> None:
    """Raise Rejected unless this release can use the schema."""
    found = revision(connection, schema)
    if found is None or found < head():
        raise invalid_setting(
            "ledger-schema",
            f"the ledger in schema {schema} is at {found or 'no revision'}, this Postroom needs {head()}: "
            "run `postroom migrate`",
        )
    floor = connection.execute(_FLOOR).scalar_one()
    if floor > head():
        raise invalid_setting(
            "ledger-schema",
            f"the ledger in schema {schema} is at {found} and needs a Postroom that knows {floor}; this one "
            f"knows {head()}: use the newer Postroom",
        )


def revision(connection: Connection, schema: str) -> str | None:
    """The revision of the schema; None if there is no ledger yet."""
    if connection.execute(_TABLE, {"name": f"{schema}.{VERSION_TABLE}"}).scalar() is None:
        return None
    found: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    return found


def head() -> str:
    """The newest revision of this release; revisions are consecutive numbers, as are their files."""
    return max(path.name[1:5] for path in HOME.glob("versions/r*.py"))


def _migrate(connection: Connection, schema: str) -> str:
    if connection.execute(_SCHEMA, {"schema": schema}).first() is None:
        connection.execute(text(f"CREATE SCHEMA {schema}"))  # a plain name: ledger_engine has checked it
    before = revision(connection, schema)
    if before is not None and before >= head():
        check(connection, schema)
        newer = "" if before == head() else f", which is newer than this Postroom's {head()} and fits it"
        return f"ledger schema {schema} is at revision {before}{newer}"
    _upgrade(connection, schema)
    return f"ledger schema {schema} migrated from {before or 'nothing'} to revision {head()}"


def _upgrade(connection: Connection, schema: str) -> None:
    # imported only here: it would take an eighth of a worker's start, and migrations are rare
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(HOME).replace("%", "%%"))
    config.attributes |= {"connection": connection, "schema": schema}
    command.upgrade(config, "head")


@contextmanager
def _allowed(schema: str) -> Iterator[None]:
    """Turn a refusal of the server into what an administrator must do."""
    try:
        yield
    except DBAPIError as error:
        if is_transient(error):
            raise
        if sqlstate(error) == INSUFFICIENT_PRIVILEGE:
            raise _forbidden(schema, error_text(error)) from None
        raise _refused(schema, error_text(error)) from None


def _refused(schema: str, refusal: str) -> Rejected:
    return invalid_setting(
        "ledger-schema",
        f"the schema {schema} cannot be migrated: {refusal}. Nothing was changed; "
        "if it has tables of another application, name another schema",
    )


def _forbidden(schema: str, refusal: str) -> Rejected:
    return invalid_setting(
        "ledger-url",
        f"its user may not create the ledger's schema: {refusal}. Let an administrator run "
        f"`CREATE SCHEMA {schema} AUTHORIZATION <user>`, or `GRANT CREATE ON DATABASE <database> TO <user>`",
    )
