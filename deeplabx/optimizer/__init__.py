"""The optimizers: one file each, over groups of parameters."""
