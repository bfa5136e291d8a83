"""The reliability bench: `make chaos` runs every row of the table and prints target, measured and verdict."""
