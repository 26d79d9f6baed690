"""Tasks, such as multi-label classification: a file each, behind the contract in task.py."""
