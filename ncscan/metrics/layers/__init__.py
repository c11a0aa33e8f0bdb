"""Measure a layer."""
