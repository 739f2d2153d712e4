"""The delivery ledger on SQLite (one worker) and PostgreSQL (several workers): same tables, same statements.

To understand the states of a letter, read `ports.ledger` (the states), `delivery.claim` (what a claimer does
with an existing row), and here `deliveries` (the statements), `leases` (which worker is alive) and `orphans`.

    sqlite, postgres        open, own and close a ledger; `sql_ledger` is what they share
    database_writer         one thread, transactions in groups
    deliveries              claim, fence, settle, release, recall, recover
    dedupe                  the row of an identity
    leases, writer          live workers, ownership, the identity of this process
    orphans                 letters of dead workers whose record is refused
    outbox                  dead letters, notifications, marks of suspected records
    suppressions, reports   the suppression list; reports and what they prove
    shared_state            circuits and shares of a rate
    maintenance             expiry of letters in doubt, pruning
    connection              a ledger beside its workers; used by `administration` and `reports`
    reader                  read-only views for the command line and the gateway
    schema, rows            tables; values in rows
    postgres_server         engine, sessions and errors of PostgreSQL
    migrations              the schema on PostgreSQL (Alembic)
"""
