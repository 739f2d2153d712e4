"""One program per duty; wiring only."""
