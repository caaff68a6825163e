"""From a checkpoint's name to a loaded detector: catalogue, hub, and what memory holds."""
