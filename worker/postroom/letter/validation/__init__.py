"""TODO say what is in worker/postroom/letter/validation."""
