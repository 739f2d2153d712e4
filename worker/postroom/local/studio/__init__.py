"""The template studio of `postroom up`: look at every template while it is written."""
