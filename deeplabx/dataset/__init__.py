"""The data sets, one file each, and how their files are read and batched."""
