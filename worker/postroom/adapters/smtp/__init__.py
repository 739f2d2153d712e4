"""Letters over SMTP: a pool of reused, pipelined connections to one relay.

Read `dialogue` first: it holds one connection's transactions without the connection, and the one place
where content leaves. `pool` is what the wiring builds: `SmtpRelay(RelaySettings(...))`.
"""
