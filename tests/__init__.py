"""The suite. Unmarked tests need no network, no server and no clock; see tests/layers.py for the rest."""
