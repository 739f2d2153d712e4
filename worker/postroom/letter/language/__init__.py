"""The language of templates: a bounded Jinja2 without a way out, and what its filters do."""
