"""Reading a data set to find all its faults at once, where the readers themselves stop at the first."""
