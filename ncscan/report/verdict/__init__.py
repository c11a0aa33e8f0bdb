"""Judge in words."""
