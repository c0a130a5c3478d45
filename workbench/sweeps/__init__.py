"""One pass over a data set that serves many layers at once: planned, sharded, resumable, and read back as tables."""
