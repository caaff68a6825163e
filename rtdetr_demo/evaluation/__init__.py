"""How fast and how accurate a detector is."""
