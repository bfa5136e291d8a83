"""What the processes of a run are and share: how they start, find each other, answer signals and use
memory.
"""
