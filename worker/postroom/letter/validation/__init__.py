"""Validation of templates: may a template be used, and what do its letters look like? Begin in `validate`."""
