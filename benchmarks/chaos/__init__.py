"""The reliability benchmark: `make chaos` kills processes, makes disks fail, and prints the results."""
