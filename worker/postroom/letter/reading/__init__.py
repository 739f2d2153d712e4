"""From YAML to the fields of a manifest: where each line is, what all parts share, what is wrong with it."""
