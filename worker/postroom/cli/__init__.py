"""The desk: what a person does with letters afterwards. Dead letters, erasure, the suppression list."""
