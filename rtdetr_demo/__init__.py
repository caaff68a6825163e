"""RT-DETR, live: detection with a decoder that can be cut after any layer."""

__version__ = "0.5.0"
