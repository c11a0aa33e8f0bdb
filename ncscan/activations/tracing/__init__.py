"""See one forward pass, and understand what it computes."""
