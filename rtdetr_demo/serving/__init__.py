"""Many callers, one device: queues, jobs and results."""
