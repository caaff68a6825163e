"""The API tab: the request for the picture just shown, in the words of several clients."""

import gradio as gr

from ..settings import Settings
from .assets import read, script


def api_tab(settings: Settings) -> None:
    """Lay the tab out inside the current Blocks."""
    gr.HTML(
        value={"access": settings.api_access},
        html_template=read("api.html"),
        js_on_load=script("api.js"),
        apply_default_css=False,
        elem_id="api",
    )
