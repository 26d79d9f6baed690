"""The commands, a module each: compose the settings, check them, build the parts, run."""
