"""Evaluations of the same images beside each other: which is better, by how much, and how sure that is."""
