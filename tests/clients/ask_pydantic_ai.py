"""pydantic-ai: an agent with an output type, by its default mode; chat and responses."""

from pathlib import Path

from pydantic_ai import Agent, BinaryContent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from shared_form import BASE_URL, MODEL, PHOTO, Scene, labels_in, labels_of, report

provider = OpenAIProvider(base_url=BASE_URL, api_key="none")
prompt = ["What is here?", BinaryContent(Path(PHOTO).read_bytes(), media_type="image/jpeg")]
chat = OpenAIChatModel(MODEL, provider=provider)
responses = OpenAIResponsesModel(MODEL, provider=provider)
report(
    text=labels_of(Agent(chat).run_sync(prompt).output),
    output_type=labels_in(Agent(chat, output_type=Scene).run_sync(prompt).output),
    responses=labels_in(Agent(responses, output_type=Scene).run_sync(prompt).output),
)
