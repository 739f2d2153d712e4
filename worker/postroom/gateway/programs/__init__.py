"""The gateway's programs: wiring only."""
