"""A checkpoint, cut at a depth, as files that run without this package."""
