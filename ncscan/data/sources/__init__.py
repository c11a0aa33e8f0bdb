"""Read data files."""
