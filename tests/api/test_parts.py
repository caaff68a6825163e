"""The API's parts by themselves: who may, how much, and settings read from text."""

import time

import pytest

from rtdetr_demo.api.auth import Client, Keys, Rate
from rtdetr_demo.api.detect import _wanted
from rtdetr_demo.api.errors import Refusal
from rtdetr_demo.api.prompt import read_settings
from rtdetr_demo.errors import TooLarge, TooManyRequests
from rtdetr_demo.settings import Settings

CLASSES = ("person", "car", "bus", "dog", "cat", "knife", "sheep", "traffic light", "wine glass")


# --- Who may, and how much ------------------------------------------------------------------------


def test_without_keys_only_this_machine_may_ask(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GRADIO_SERVER_NAME", raising=False)
    for host, access in [
        (None, "open"), ("127.0.0.1", "open"), ("localhost", "open"), ("::1", "open"),
        ("[::1]", "open"), ("0.0.0.0", "closed"), ("::", "closed"), ("192.168.1.5", "closed"),
        ("example.org", "closed"),
    ]:  # fmt: skip
        settings = Settings(host=host)
        assert settings.api_access == access, host
        keys = Keys(settings)
        if access == "open":
            assert keys.client("", "127.0.0.1").name == "127.0.0.1"
            assert "open to this machine" in keys.describe()
        else:
            assert "RTDETR_API_KEYS" in keys.describe()
            with pytest.raises(Refusal, match="closed") as refusal:
                keys.client("Bearer x", "127.0.0.1")
            assert refusal.value.status == 401
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")  # as a Space has it
    assert Settings().api_access == "closed"
    monkeypatch.delenv("GRADIO_SERVER_NAME")
    monkeypatch.setenv("GRADIO_SHARE", "True")
    assert Settings().api_access == "closed"


def test_keys_come_from_the_environment_and_are_never_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RTDETR_API_KEYS", " one-key ,, another ")
    settings = Settings.from_command_line([])
    assert settings.api_keys == ("one-key", "another")
    assert settings.api_access == "keys"
    assert "one-key" not in repr(settings)
    keys = Keys(settings)
    assert "one-key" not in keys.describe()
    twice = Keys(Settings(api_keys=("a", "a", "b")))
    assert {twice.client(f"Bearer {key}", "x").name for key in "ab"} == {"key 1", "key 2"}
    client = keys.client("bearer  another ", "10.0.0.9")
    assert client == Client("key 2", ("key 2", "address 10.0.0.9"))


def test_the_rate_holds_for_keys_and_for_addresses():
    rate = Rate(5)
    rate.count(Client("key 1", ("key 1", "address a")), 3)
    with pytest.raises(TooManyRequests) as refusal:
        rate.count(Client("key 1", ("key 1", "address b")), 3)
    assert 1 <= refusal.value.retry_after <= 61
    with pytest.raises(TooManyRequests):
        rate.count(Client("key 2", ("key 2", "address a")), 3)
    rate.count(Client("key 2", ("key 2", "address b")), 5)  # the refusals counted for nothing
    with pytest.raises(TooLarge):
        rate.count(Client("key 5", ("key 5",)), 6)
    for _ in range(100):
        Rate(0).count(Client("x", ("x",)), 16)


# --- What is asked --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("threshold 0.6, only dogs", {"threshold": 0.6, "classes": ["dog"]}),
        ("only dogs, threshold 0.6", {"threshold": 0.6, "classes": ["dog"]}),
        ("Only the people, buses and traffic lights please.",
         {"classes": ["person", "bus", "traffic light"]}),
        ("just wine glasses & knives in this picture", {"classes": ["wine glass", "knife"]}),
        ("confidence above 40 %", {"threshold": 0.4}),
        ("threshold 1", {"threshold": 1.0}),
        ("scores over .25; 3 decoder layers", {"threshold": 0.25, "decoder_layers": 3}),
        ("stop after layer 2, no more than 5 boxes", {"decoder_layers": 2, "max_detections": 5}),
        ("decoder_layers=4 max_detections=7", {"decoder_layers": 4, "max_detections": 7}),
        ("only dogs, after layer 3", {"classes": ["dog"], "decoder_layers": 3}),
        ("threshold 0.5, yes, threshold 0.5", {"threshold": 0.5}),
        # Ambiguous, or no setting at all.
        ("threshold 0.5 or threshold 0.6", {}),
        ("threshold between 0.5 and 0.6", {}),
        ("threshold 0.5 to 0.6", {}),
        ("threshold 1.5", {}),
        ("threshold 0.5abc", {}),
        ("decoder layers 3 to 5", {}),
        ("3 or 4 decoder layers", {}),
        ("9 decoder layers", {}),
        ("What is on this cake with 2 layers?", {}),
        ("What does layer 12 of the cake hold?", {}),
        ("The score is 1.", {}),
        ("books on the top 3 shelves", {}),
        ("don't just show dogs", {}),
        ("I do not want only dogs", {}),
        ("do not use threshold 0.9", {}),
        ("everything except cars; threshold 0.3", {"threshold": 0.3}),
        ("only dragons", {}),
        ("only dogs and dragons", {}),
        ("not only dogs", {}),
        ("only dogs. Well, only cats.", {}),
        ("the only person here", {}),
        ("What is in the picture? 0.7", {}),
        ("", {}),
    ],
)  # fmt: skip
def test_settings_in_text(text: str, settings: dict):
    assert read_settings(text, CLASSES, 6) == settings


@pytest.mark.parametrize("text", ["only " * 20_000, "a, " * 20_000, "only " + " " * 99_999 + "in"])
def test_long_texts_cost_no_time(text: str):
    began = time.thread_time()
    read_settings(text, CLASSES, 6)
    assert time.thread_time() - began < 0.2


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("image/png", "image/png"),
        ("image/*", "image/png"),
        ("image/webp, image/png;q=0.5", "image/webp"),
        ("text/html, image/webp;q=0.8, */*;q=0.1", "image/webp"),
        ("application/json;q=0, */*", "image/png"),
    ],
)
def test_what_is_accepted_is_sent(accept: str, kind: str):
    assert _wanted(accept) == kind


@pytest.mark.parametrize("accept", ["text/html", "image/jpeg", "image/png;q=0", "image/png;q=x"])
def test_what_nobody_has_is_refused(accept: str):
    with pytest.raises(Refusal) as refusal:
        _wanted(accept)
    assert refusal.value.status == 406
