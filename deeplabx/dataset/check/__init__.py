"""Checks of a data set before a run starts."""
