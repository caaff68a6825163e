"""Pictures whose metadata asks for gigabytes, sent to the running app."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.app import App
from tests.support.metadata_bombs import BOMBS
from tests.support.paths import EXAMPLES
from tests.support.processes import holdings

pytestmark = pytest.mark.alone


@pytest.fixture(autouse=True)
def ready(app: App) -> None:
    app.wait_until_ready()


def test_the_api_refuses_a_bomb_of_each_kind_and_serves_others_meanwhile(app: App, tmp_path):
    def send(content: bytes) -> httpx.Response:
        return httpx.post(f"{app.url}/v1/detect", files={"file": content}, timeout=60)

    photo = (EXAMPLES / "dogs.jpg").read_bytes()
    assert send(photo).status_code == 200
    bombs = [make() for make in BOMBS.values()]
    before = holdings(app.process.pid, tmp_path)["memory MB"]
    with ThreadPoolExecutor(4) as threads:
        refusals = [threads.submit(send, bomb) for bomb in bombs]
        assert send(photo).elapsed.total_seconds() < 5
        answers = [refusal.result() for refusal in refusals]
    assert {answer.status_code for answer in answers} == {422}
    assert all("metadata" in answer.text for answer in answers)
    assert holdings(app.process.pid, tmp_path)["memory MB"] - before < 400
