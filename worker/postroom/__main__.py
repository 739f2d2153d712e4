"""`python -m postroom` is `postroom`."""

from postroom.cli import main

main()
