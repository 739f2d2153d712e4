"""The command line `postroom`: options, commands, and what only commands do."""
