"""Images made from what a run computed or wrote to disk."""
