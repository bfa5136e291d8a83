"""The commands: how one is found, composed, run and answered, and a file for each."""
