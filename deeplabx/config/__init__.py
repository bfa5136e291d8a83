"""What a run can be told, and what a file may say: settings, their ranges, and the words for what is
wrong.
"""
