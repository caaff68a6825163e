"""llama-index: a chat, and `as_structured_llm`."""

from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.llms.openai_like import OpenAILike
from shared_form import BASE_URL, MODEL, PHOTO, Scene, labels_in, labels_of, report

model = OpenAILike(
    model=MODEL,
    api_base=BASE_URL,
    api_key="none",
    is_chat_model=True,
    is_function_calling_model=True,
)
message = ChatMessage(role="user", blocks=[TextBlock(text="What is here?"), ImageBlock(path=PHOTO)])
structured = model.as_structured_llm(Scene).chat([message])
report(
    chat=labels_of(model.chat([message]).message.content),
    as_structured_llm=labels_in(structured.raw),
)
