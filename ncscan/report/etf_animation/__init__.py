"""Draw class means on their way to the simplex."""
