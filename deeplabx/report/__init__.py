"""Figures and images made of what a run computed or wrote to disk."""
