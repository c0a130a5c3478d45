"""Sessions: one model with one data set, its lane of work, and the selection that widgets share."""
