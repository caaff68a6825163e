"""From a clip to a tracked, annotated clip."""
