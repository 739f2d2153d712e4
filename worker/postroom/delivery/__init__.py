"""The data plane: validate → render → claim → send → settle. Begin with `journey`."""
