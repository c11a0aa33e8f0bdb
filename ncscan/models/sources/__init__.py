"""Make a module without code from the user."""
