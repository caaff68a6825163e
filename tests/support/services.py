"""Services in this process."""

from collections.abc import Callable

from rtdetr_demo.serving.service import Service

MakeService = Callable[..., Service]
"""Makes a service of the settings that it is given, by name."""
