"""The recorder: the queryable index of the log."""
