"""Build the pages."""
