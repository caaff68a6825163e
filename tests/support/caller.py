"""The server functions of the page, called without a browser."""

import httpx


class Caller:
    """Calls the server functions of the page as its JavaScript does."""

    def __init__(
        self,
        url: str,
        component: str = "page",
        address: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        """`address`: which of this machine's own it comes from, 127.0.0.1 by default."""
        line = httpx.HTTPTransport(local_address=address)
        self.client = httpx.Client(base_url=url, timeout=60, transport=line, headers=headers)
        components = self.client.get("/config").json()["components"]
        [self.component] = [
            one["id"] for one in components if one["props"].get("elem_id") == component
        ]

    def raw(self, function: str, data: object) -> httpx.Response:
        return self.client.post(
            "/gradio_api/component_server",
            json={
                "session_hash": "test",
                "component_id": self.component,
                "fn_name": function,
                "data": data,
            },
        )

    def __call__(self, function: str, data: object) -> dict:
        response = self.raw(function, data)
        assert response.status_code == 200, response.text
        return response.json()

    def upload(self, content: bytes, name: str = "photo.jpg") -> str:
        answer = self.client.post("/gradio_api/upload", files={"files": (name, content)})
        assert answer.status_code == 200, answer.text
        return answer.json()[0]


def check_refusal(answer: dict) -> None:
    """An answer is one sentence for a person, and tells nothing of the machine."""
    assert list(answer) == ["error"]
    assert 15 < len(answer["error"]) < 400
    for leak in ("Traceback", "/tmp", "/root", "/home", ".py", "Errno", "pydantic"):
        assert leak not in answer["error"]
