"""Sweeps: what their jobs are, where they run, what is seen of them, and what comes of them."""
