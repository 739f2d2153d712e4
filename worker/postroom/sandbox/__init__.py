"""The sandbox: a mail server that captures every letter, and the inbox that shows them.

It relays nothing: no code path here opens a connection to another machine.
"""
