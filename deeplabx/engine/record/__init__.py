"""What an evaluation keeps of each image, beside the one confusion matrix: for reports and comparisons."""
