"""Weights of other programs: a table of known files, and an importer for each program."""
