"""A plugin that cannot be loaded: it must be named in a warning, and cost nothing else."""

raise ImportError("peak_bars.broken wants a package that is not there")
