"""Offer the commands."""

from ncscan.cli.program import app, main

__all__ = ["app", "main"]
