"""The reliability bench: `make chaos` runs every figure of the table and prints target, measured and verdict."""
