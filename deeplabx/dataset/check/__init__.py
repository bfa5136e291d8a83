"""What finds faults in a data set before a run begins."""
