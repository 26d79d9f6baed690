"""Ranks, the processes that share a run: devices, collective operations, how ranks start and end."""
