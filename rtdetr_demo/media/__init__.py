"""From bytes or an address to one upright RGB picture, and from predictions to files."""
