"""Pure tables: what a reply means, when to try again, what a row found at claim time allows."""
