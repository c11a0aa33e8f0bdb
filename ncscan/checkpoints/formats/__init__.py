"""Parse the formats of checkpoints."""
