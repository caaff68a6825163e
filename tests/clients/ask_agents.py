"""openai-agents: an agent of the Responses model (the default) and of chat completions."""

from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from shared_form import BASE_URL, DATA_URI, MODEL, Scene, labels_in, labels_of, report

set_tracing_disabled(True)
client = AsyncOpenAI(base_url=BASE_URL, api_key="none")
items = [
    {"role": "user", "content": [{"type": "input_image", "detail": "auto", "image_url": DATA_URI}]},
    {"role": "user", "content": "What is in this picture?"},
]


def ask(model: object, output_type: type | None = None) -> object:
    agent = Agent(name="Eye", instructions="Look.", model=model, output_type=output_type)
    return Runner.run_sync(agent, items).final_output


responses = OpenAIResponsesModel(MODEL, client)
chat = OpenAIChatCompletionsModel(MODEL, client)
report(
    responses=labels_of(ask(responses)),
    responses_output_type=labels_in(ask(responses, Scene)),
    chat=labels_of(ask(chat)),
    chat_output_type=labels_in(ask(chat, Scene)),
)
