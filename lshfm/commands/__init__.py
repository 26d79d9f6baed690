"""One module a command: compose, validate, build the parts, run."""
