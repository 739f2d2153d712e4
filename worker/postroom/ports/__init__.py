"""Ports: what the pipeline needs from the world, as protocols and plain values.

A port speaks the domain and reports facts; it never decides. Adapters implement ports, and only the wiring
chooses adapters.
"""
