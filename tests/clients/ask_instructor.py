"""instructor: its default mode."""

import instructor
from openai import OpenAI
from shared_form import BASE_URL, MESSAGE, MODEL, Scene, labels_in, report

client = instructor.from_openai(OpenAI(base_url=BASE_URL, api_key="none"))
scene = client.chat.completions.create(model=MODEL, messages=[MESSAGE], response_model=Scene)
report(default=labels_in(scene))
