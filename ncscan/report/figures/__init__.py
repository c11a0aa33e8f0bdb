"""Draw charts and figures."""
