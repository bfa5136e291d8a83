"""The processes of a run: how they start, find each other, handle signals and use memory."""
