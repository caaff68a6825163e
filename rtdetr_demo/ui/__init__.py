"""The page: it lays out and wires, and leaves the arithmetic to the rest of the package."""
