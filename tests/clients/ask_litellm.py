"""litellm: a completion, and a form."""

import litellm
from shared_form import BASE_URL, MESSAGE, MODEL, Scene, labels_in, labels_of, report

known = {"model": f"openai/{MODEL}", "api_base": BASE_URL, "api_key": "none"}
chat = litellm.completion(messages=[MESSAGE], **known)
form = litellm.completion(messages=[MESSAGE], response_format=Scene, **known)
report(
    completion=labels_of(chat.choices[0].message.content),
    response_format=labels_in(Scene.model_validate_json(form.choices[0].message.content)),
)
