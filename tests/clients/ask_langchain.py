"""langchain-openai: a message, structured output by default and by function calling."""

from langchain_openai import ChatOpenAI
from shared_form import BASE_URL, MESSAGE, MODEL, Scene, labels_in, labels_of, report

model = ChatOpenAI(model=MODEL, base_url=BASE_URL, api_key="none")
report(
    invoke=labels_of(model.invoke([MESSAGE]).content),
    structured=labels_in(model.with_structured_output(Scene).invoke([MESSAGE])),
    function_calling=labels_in(
        model.with_structured_output(Scene, method="function_calling").invoke([MESSAGE])
    ),
)
