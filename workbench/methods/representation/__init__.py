"""Methods that show how a layer represents things: maps of its components and of samples."""
