"""What other people's programs send by habit, and what they get."""

import base64
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from jsonschema import Draft202012Validator
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client

from rtdetr_demo import __version__
from rtdetr_demo.errors import BadInput
from rtdetr_demo.media.images import read_data_uri
from tests.support.api import PHOTO, check_error, data_uri
from tests.support.app import App, run_async

RAW = PHOTO.read_bytes()
PLAIN = base64.b64encode(RAW).decode()
HEAD = "data:image/jpeg;base64,"
KEY = "a-key-of-a-test"
STRING = {"type": "string"}
THINGS = {
    "type": "object",
    "properties": {
        "things": {
            "type": "array",
            "items": {"type": "object", "properties": {"label": STRING}, "required": ["label"]},
        }
    },
    "required": ["things"],
}


def user(text: str | None = None, url: object = None) -> dict:
    parts: list = [] if text is None else [{"type": "text", "text": text}]
    if url is not None:
        parts.append({"type": "image_url", "image_url": url})
    return {"role": "user", "content": parts}


def chat(app: App, path: str = "/v1/chat/completions", **fields: object) -> httpx.Response:
    body = {"model": app.checkpoint, "messages": [user(url={"url": data_uri()})], **fields}
    return httpx.post(app.url + path, json=body, timeout=60)


def responses(app: App, **fields: object) -> httpx.Response:
    part = {"type": "input_image", "image_url": data_uri()}
    body = {"model": app.checkpoint, "input": [{"role": "user", "content": [part]}], **fields}
    return httpx.post(f"{app.url}/v1/responses", json=body, timeout=60)


def settings_of(answer: httpx.Response) -> dict:
    assert answer.status_code == 200, answer.text
    return json.loads(answer.json()["choices"][0]["message"]["content"])["settings"]


@pytest.fixture(scope="module", autouse=True)
def ready(app: App) -> None:
    app.wait_until_ready()


# --- Fields without effect ------------------------------------------------------------------------

HARMLESS = {
    "tools": [], "include": [], "stop": None, "tool_choice": "none", "logprobs": False,
    "top_logprobs": 0, "frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {},
    "parallel_tool_calls": True, "service_tier": "auto", "modalities": ["text"], "store": True,
    "max_tokens": 10, "max_completion_tokens": 10, "max_output_tokens": 10, "audio": None,
    "functions": [], "function_call": "none", "reasoning_effort": "low", "reasoning": {},
    "prediction": None, "previous_response_id": None, "background": False, "truncation": "auto",
    "prompt_cache_key": "x", "safety_identifier": "x", "metadata": {}, "user": "x",
    "stream_options": None, "response_format": None, "conversation": None, "prompt": None,
    "web_search_options": None, "verbosity": "low",
}  # fmt: skip


@pytest.mark.parametrize("ask", [chat, responses])
def test_values_that_change_nothing_are_accepted(app: App, ask):
    answer = ask(app, **HARMLESS)
    assert answer.status_code == 200, answer.text


def test_stop_words_and_a_choice_of_no_tool_are_accepted(app: App):
    tool = {"type": "function", "function": {"name": "f"}}
    assert chat(app, stop=["\n"], tools=[tool, tool], tool_choice="none").status_code == 200
    assert chat(app, tools=[tool]).json()["choices"][0]["message"]["content"]


def test_unknown_fields_are_ignored_with_a_line_in_the_log(app: App):
    part = {**user(url={"url": data_uri()})["content"][0], "cache_control": {"type": "ephemeral"}}
    message = {"role": "user", "content": [part], "made_up": 1}
    answer = chat(app, messages=[message], invented=True)
    assert answer.status_code == 200
    time.sleep(0.2)
    name = answer.headers["x-request-id"]
    [entry] = [json.loads(line) for line in app.lines if f'"{name}"' in line]
    assert entry["ignored"] == ["invented", "messages.0.made_up"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("logprobs", True), ("audio", {}), ("previous_response_id", "x"), ("background", True)],
)
def test_what_would_change_the_answer_is_refused(app: App, field: str, value: object):
    answer = chat(app, **{field: value})
    assert answer.status_code == 400
    assert check_error(answer)["param"] == field


# --- A forced function ----------------------------------------------------------------------------

FUNCTION = {"name": "report", "description": "Report things.", "parameters": THINGS}
TOOL = {"type": "function", "function": FUNCTION}


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "report"}}]
)
def test_one_forced_function_is_called(app: App, choice: object):
    [message] = [
        one["message"] for one in chat(app, tools=[TOOL], tool_choice=choice).json()["choices"]
    ]
    assert message["content"] is None
    [call] = message["tool_calls"]
    assert call["function"]["name"] == "report"
    arguments = json.loads(call["function"]["arguments"])
    Draft202012Validator(THINGS).validate(arguments)
    assert arguments["things"]


def test_a_forced_function_is_streamed(app: App):
    answer = chat(app, tools=[TOOL], tool_choice="required", stream=True)
    chunks = [json.loads(line[6:]) for line in answer.text.split("\n\n") if "{" in line]
    calls = [one["choices"][0]["delta"].get("tool_calls") for one in chunks]
    [[call]] = [one for one in calls if one]
    assert json.loads(call["function"]["arguments"])["things"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_forced_function_of_responses_is_called(app: App):
    tools = [{"type": "function", **FUNCTION}]
    [item] = responses(app, tools=tools, tool_choice="required").json()["output"]
    assert (item["type"], item["name"]) == ("function_call", "report")
    assert json.loads(item["arguments"])["things"]


@pytest.mark.parametrize("choice", [None, "auto", "required"])
def test_a_choice_among_several_tools_is_refused(app: App, choice: str | None):
    other = {"type": "function", "function": {**FUNCTION, "name": "other"}}
    answer = chat(app, tools=[TOOL, other], tool_choice=choice)
    assert answer.status_code == 400
    assert check_error(answer)["param"] == "tools"


def test_an_unknown_function_cannot_be_forced(app: App):
    choice = {"type": "function", "function": {"name": "other"}}
    answer = chat(app, tools=[TOOL], tool_choice=choice)
    assert check_error(answer)["param"] == "tool_choice"


# --- Schemas --------------------------------------------------------------------------------------


def with_schema(schema: dict, **fields: object) -> dict:
    form = {"type": "json_schema", "json_schema": {"name": "mine", "schema": schema}}
    return {"response_format": form, "threshold": 0.3, **fields}


def test_an_enum_of_labels_filters_before_the_best_are_chosen(app: App):
    plain = json.loads(chat(app, threshold=0.3).json()["choices"][0]["message"]["content"])
    labels = [one["label"] for one in plain["results"][0]["detections"]]
    rarer = next(label for label in labels if label != labels[0])
    schema = json.loads(json.dumps(THINGS))
    schema["properties"]["things"]["items"]["properties"]["label"] = {"enum": [rarer.upper()]}
    answer = chat(app, **with_schema(schema, max_detections=1))
    things = json.loads(answer.json()["choices"][0]["message"]["content"])["things"]
    assert things == [{"label": rarer.upper()}]


def test_labels_that_the_checkpoint_does_not_know_are_refused(app: App):
    schema = {
        "type": "object",
        "properties": {"label": {"enum": ["dragon"]}},
        "required": ["label"],
    }
    answer = chat(app, **with_schema(schema))
    assert answer.status_code == 422
    assert "None of the schema's labels" in check_error(answer)["message"]


# --- Conversations --------------------------------------------------------------------------------


def test_a_turn_without_a_picture_asks_about_the_latest_one(app: App):
    turns = [
        user("threshold 0.7", {"url": "http://127.0.0.1:1/not-asked-for"}),
        user("threshold 0.9", {"url": data_uri()}),
        {"role": "assistant", "content": "Two dogs."},
        {"role": "user", "content": "only dogs"},
    ]
    settings = settings_of(chat(app, messages=turns))
    assert (settings["classes"], settings["threshold"]) == (["dog"], 0.5)


def test_a_system_message_states_settings_that_the_user_may_change(app: App):
    system = {"role": "system", "content": "threshold 0.7, 2 decoder layers"}
    turns = [system, user("threshold 0.4", {"url": data_uri()})]
    settings = settings_of(chat(app, messages=turns))
    assert (settings["threshold"], settings["decoder_layers"]) == (0.4, 2)
    told = responses(app, instructions="threshold 0.7").json()["output"][0]["content"][0]["text"]
    assert json.loads(told)["settings"]["threshold"] == 0.7


def test_items_that_are_no_messages_are_taken(app: App):
    image = {"type": "input_image", "image_url": data_uri(), "detail": "auto"}
    items = [
        {"role": "user", "content": [image]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]},
        {"type": "message", "role": "user", "content": "3 decoder layers"},
    ]
    answer = responses(app, input=items)
    assert answer.status_code == 200, answer.text
    text = json.loads(answer.json()["output"][0]["content"][0]["text"])
    assert text["settings"]["decoder_layers"] == 3


# --- Pictures -------------------------------------------------------------------------------------

FORMS = {
    "wrapped": HEAD + base64.encodebytes(RAW).decode(),
    "newline": HEAD + PLAIN + "\n",
    "no padding": HEAD + PLAIN.rstrip("="),
    "url-safe": HEAD + base64.urlsafe_b64encode(RAW).decode(),
    "space": HEAD + " " + PLAIN,
}


@pytest.mark.parametrize("form", FORMS)
def test_base64_as_tools_write_it(form: str):
    assert read_data_uri(FORMS[form]) == RAW


@pytest.mark.parametrize("tail", ["§", "=AA", "A=A", "-+/_*"])
def test_damaged_base64_is_refused(tail: str):
    with pytest.raises(BadInput, match="damaged"):
        read_data_uri(HEAD + tail)


def test_an_image_url_may_be_a_string_or_an_object(app: App):
    assert chat(app, messages=[user(url=data_uri())]).status_code == 200
    image = {"type": "input_image", "image_url": {"url": data_uri()}}
    assert responses(app, input=[{"role": "user", "content": [image]}]).status_code == 200


@pytest.mark.parametrize("field", ["file", "image"])
def test_a_multipart_field_may_be_named_image(app: App, field: str):
    answer = httpx.post(f"{app.url}/v1/detect", files={field: RAW}, timeout=60)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("classes", ["Dog", "DOG, person", ["dOg"]])
def test_classes_are_a_list_or_a_string_in_any_case(app: App, classes: object):
    settings = settings_of(chat(app, classes=classes))
    assert settings["classes"] in (["dog"], ["dog", "person"])


# --- Errors and keys ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/chat/completions", "/responses"])
def test_a_base_url_without_v1_is_told_so(app: App, path: str):
    answer = chat(app, path)
    assert answer.status_code == 404
    assert f"{app.url}/v1" in check_error(answer)["message"]
    assert "/v1" in check_error(httpx.get(f"{app.url}/models"))["message"]


def test_an_unknown_model_is_answered_with_where_they_are_listed(app: App):
    assert "GET /v1/models" in check_error(chat(app, model="gpt-4o"))["message"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_are_answered_under_any_name(app: App, path: str):
    answer = httpx.get(app.url + path, headers={"Host": "10.1.2.3:80"})
    assert answer.status_code == 200
    assert httpx.get(f"{app.url}/v1/models", headers={"Host": "x.example"}).status_code == 403


@pytest.fixture(scope="module")
def guarded(tiny: Path) -> Iterator[App]:
    running = App("--checkpoint", str(tiny), HF_HUB_OFFLINE="1", RTDETR_API_KEYS=KEY)
    yield running
    running.stop()


def test_a_key_may_come_as_x_api_key(guarded: App):
    def status(**headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.get(f"{guarded.url}/v1/models", headers=named).status_code

    assert status(X_API_Key=KEY) == 200
    assert status(X_API_Key="wrong") == 401
    assert status(X_API_Key=KEY, Authorization="Basic eDp5") == 200
    schema = httpx.get(f"{guarded.url}/openapi.json").json()
    assert set(schema["components"]["securitySchemes"]) == {"HTTPBearer", "APIKeyHeader"}


# --- The schema -----------------------------------------------------------------------------------


def test_the_schema_has_names_bounds_and_answers_that_generators_take(app: App):
    schema = httpx.get(f"{app.url}/openapi.json").json()
    text = json.dumps(schema)
    names = schema["components"]["schemas"]
    assert not [name for name in names if "__" in name]
    assert not [name for name in names if f'schemas/{name}"' not in text]
    assert not [bound for bound in ("ge", "le", "gt", "lt") if f'"{bound}":' in text]
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            content = operation["responses"]["200"]["content"]
            assert all(part["schema"] not in ({}, {"type": "object"}) for part in content.values())
            assert operation["operationId"].count("_") <= 2, path


def test_an_inspection_is_as_the_schema_says(app: App):
    schema = httpx.get(f"{app.url}/openapi.json").json()
    body = {"image_url": data_uri()}
    answer = httpx.post(f"{app.url}/v1/inspect", json=body, timeout=60).json()
    report = {"$ref": "#/components/schemas/InspectionReport", **schema}
    Draft202012Validator(report).validate(answer)


# --- Gradio and MCP -------------------------------------------------------------------------------


def test_a_burst_of_uploads_waits_for_its_turn(app: App):
    def upload(_: int) -> int:
        answer = httpx.post(f"{app.url}/gradio_api/upload", files={"files": RAW}, timeout=60)
        return answer.status_code

    with ThreadPoolExecutor(40) as pool:
        assert set(pool.map(upload, range(40))) == {200}


@pytest.mark.load
def test_forty_submits_at_once_give_forty_answers(app: App):
    client = Client(app.url, verbose=False)
    jobs = [client.submit(image=handle_file(PHOTO), api_name="/detect") for _ in range(40)]
    assert {job.result(timeout=100)["image"]["width"] for job in jobs} == {852}


def test_a_plain_path_is_answered_with_what_to_use(app: App):
    with pytest.raises(AppError, match="use handle_file"):
        Client(app.url, verbose=False).predict(image=str(PHOTO), api_name="/detect")


def test_a_missing_threshold_is_the_default(app: App):
    client = Client(app.url, verbose=False)
    found = [
        client.predict(image=handle_file(PHOTO), api_name="/detect", **more)["detections"]
        for more in ({"threshold": None}, {"threshold": 0.5}, {})
    ]
    assert found[0] == found[1] == found[2]


def test_every_advertised_endpoint_has_an_open_route(app: App):
    body = {"data": [data_uri(), None, None, None, None]}
    answer = httpx.post(f"{app.url}/gradio_api/run/detect_objects", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    assert httpx.post(f"{app.url}/gradio_api/run/other", json=body).status_code == 404


@pytest.mark.parametrize("path", ["/gradio_api/mcp", "/gradio_api/mcp/"])
def test_the_tool_is_offered_at_both_forms_of_the_address(app: App, path: str):
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    headers = {"Accept": "application/json, text/event-stream"}
    answer = httpx.post(app.url + path, json=call, headers=headers)
    assert answer.status_code == 200
    assert "detect_objects" in answer.text


def test_the_tool_has_annotations_a_version_and_no_paths(app: App):
    async def ask() -> tuple:
        async with (
            streamablehttp_client(f"{app.url}/gradio_api/mcp") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            server = (await session.initialize()).serverInfo
            [tool] = (await session.list_tools()).tools
            arguments = {"image": data_uri(), "threshold": None, "classes": "Dog"}
            return server, tool, await session.call_tool(tool.name, arguments)

    server, tool, result = run_async(ask())
    assert server.version == __version__
    assert tool.annotations.readOnlyHint is True
    assert tool.annotations.destructiveHint is False
    assert not result.isError, result.content
    assert [part.type for part in result.content] == ["image", "text"]
    text = result.content[1].text
    assert "/tmp" not in text
    assert "file=" not in text
    assert {one["label"] for one in json.loads(text)["detections"]} <= {"dog"}
