"""Many callers, one device: requests are opened, prepared and queued, and run by one thread."""
