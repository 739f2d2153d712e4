"""The sandbox: a mail server that captures every letter, and an inbox that shows them.

It relays nothing: no code in this package opens a connection to another machine.
"""
