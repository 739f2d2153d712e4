"""SMTP client: a pool of reused, pipelined connections to one relay.

Read `transaction` first: it runs the transactions of one connection, without the connection, and contains the
single place where content leaves. `worker.relays` builds `pool.SmtpRelay(RelaySettings(...))`.
"""
