"""Weights of other programs: the known files, and an importer for each program."""
