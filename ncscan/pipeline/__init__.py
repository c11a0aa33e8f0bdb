"""Do the work of each command."""
