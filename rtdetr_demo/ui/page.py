"""The whole page: a heading, and one tab per way in."""

from typing import Any

import gradio as gr

from ..service import Service
from ..sources import MAX_BYTES
from .assets import STATIC
from .live import live_tab
from .photo import photo_tab

TITLE = "RT-DETR, layer by layer"

HEADING = """
<header class="rt-heading">
  <h1>RT-DETR, layer by layer</h1>
  <p>A detector whose decoder can be cut after any layer, without retraining.
  Move the slider; watch boxes, scores and speed change.</p>
</header>
"""


def build(service: Service) -> gr.Blocks:
    """Lay out the page."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        gr.HTML(HEADING, apply_default_css=False)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Photo", id="photo"):
                photo_tab(service)
            with gr.Tab("Live", id="live"):
                live_tab(service)
    return page


def launch_options() -> dict[str, Any]:
    """How `build`'s page is launched, on every surface."""
    return {
        "theme": gr.themes.Base(
            primary_hue="teal",
            neutral_hue="stone",
            font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
        "css_paths": [STATIC / "page.css"],
        "footer_links": ["api"],
        "max_file_size": MAX_BYTES,
        "ssr_mode": False,
        "quiet": True,
    }
