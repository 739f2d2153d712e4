"""`postroom import`: a page with placeholders of another system becomes a template of Postroom."""
