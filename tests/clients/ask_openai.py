"""openai: chat, stream, parse, responses."""

from openai import OpenAI
from shared_form import BASE_URL, DATA_URI, MESSAGE, MODEL, Scene, labels_in, labels_of, report

client = OpenAI(base_url=BASE_URL, api_key="none")
chat = client.chat.completions.create(model=MODEL, messages=[MESSAGE], max_tokens=300)
stream = client.chat.completions.create(model=MODEL, messages=[MESSAGE], stream=True)
streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
parsed = client.chat.completions.parse(model=MODEL, messages=[MESSAGE], response_format=Scene)
items = [
    {
        "role": "user",
        "content": [
            {"type": "input_text", "text": "What is in this picture?"},
            {"type": "input_image", "image_url": DATA_URI},
        ],
    }
]
response = client.responses.create(model=MODEL, input=items)
parsed_response = client.responses.parse(model=MODEL, input=items, text_format=Scene)
report(
    chat=labels_of(chat.choices[0].message.content),
    stream=labels_of(streamed),
    parse=labels_in(parsed.choices[0].message.parsed),
    responses=labels_of(response.output_text),
    responses_parse=labels_in(parsed_response.output_parsed),
)
