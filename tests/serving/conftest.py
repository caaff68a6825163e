"""What tests of services share."""

from collections.abc import Iterator

import pytest

from rtdetr_demo.serving.service import Service
from rtdetr_demo.settings import Settings
from tests.support.services import MakeService


@pytest.fixture
def make_service() -> Iterator[MakeService]:
    """Services that are not started yet; each is closed after the test."""
    made: list[Service] = []

    def make(**settings: object) -> Service:
        made.append(Service(Settings(**settings)))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()
        one.scratch.close()
