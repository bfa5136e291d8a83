"""A trained model as a file of another program, and the proof that the file computes what the model does."""
