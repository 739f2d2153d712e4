"""Callbacks over HTTP: Standard Webhooks, sent to addresses that were looked at first."""

from postroom.adapters.callbacks.caller import HttpCaller, Target

__all__ = ["HttpCaller", "Target"]
