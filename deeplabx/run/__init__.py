"""What commands share: from a config to objects, where weights come from, and what a run leaves in its
folder.
"""
