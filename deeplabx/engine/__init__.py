"""What executes a run: its state, the loop, evaluation, checkpoints, devices, signals and the log."""
