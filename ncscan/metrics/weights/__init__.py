"""Measure the linear maps."""
