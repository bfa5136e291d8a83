"""The reliability bench: `make chaos` kills processes, lets disks fail, and prints what was measured."""
