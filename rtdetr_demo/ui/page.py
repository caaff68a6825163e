"""The whole page: a heading, and one tab per way in."""

from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from ..api.app import Api, ApiMiddleware
from ..media.images import MAX_BYTES
from ..serving.result_store import ResultStore
from ..serving.service import Service
from .api import api_tab
from .assets import STATIC
from .lab import lab_tab
from .live import live_tab
from .mcp import add_tools
from .photo import photo_tab
from .video import video_tab

TITLE = "RT-DETR, layer by layer"

HEADING = """
<header class="rt-heading">
  <h1>RT-DETR, layer by layer</h1>
  <p>A detector whose decoder can be cut after any layer, without retraining.
  Move the slider; watch boxes, scores and speed change.</p>
</header>
"""


class Page(gr.Blocks):
    """Blocks whose API leaves addresses to our own fetcher, and refuses in sentences."""

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> Any:
        """Gradio's step before any function, where it fetches and checks the files of a call."""
        inputs = [
            one["path"] if isinstance(one, dict) and _is_address(one.get("path")) else one
            for one in inputs
        ]
        try:
            return await super().preprocess_data(block_fn, inputs, state, explicit_call)
        except gr.Error:
            raise
        except Exception:
            raise gr.Error(
                "What was sent does not fit. Send the picture as a file (with gradio_client, as "
                "handle_file(...)), and the rest as the page's API view describes.",
                print_exception=False,
            ) from None


def _is_address(path: object) -> bool:
    return isinstance(path, str) and path.startswith(("http://", "https://"))


def build(service: Service) -> gr.Blocks:
    """Lay out the page."""
    results = ResultStore(service.scratch)
    with Page(
        title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)
    ) as page:
        gr.HTML(HEADING, apply_default_css=False)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Photo", id="photo"):
                photo_tab(service, results)
            with gr.Tab("Live", id="live"):
                live_tab(service)
            with gr.Tab("Video", id="video"):
                video_tab(service)
            with gr.Tab("Speed lab", id="lab"):
                lab_tab(service, results)
            with gr.Tab("API", id="api"):
                api_tab(service.settings)
        add_tools(service, results)
    return page


def launch_options(service: Service, api: Api) -> dict[str, Any]:
    """How `build`'s page is launched: with the API beside it, and its tools for assistants."""
    return {
        "theme": gr.themes.Base(
            primary_hue="teal",
            neutral_hue="stone",
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ),
        "css_paths": [STATIC / "page.css"],
        "footer_links": ["api"],
        "max_file_size": max(MAX_BYTES, service.settings.video_mb * 2**20),
        "allowed_paths": [str(service.scratch.path)],
        "ssr_mode": False,
        "share": service.settings.share,  # said, as Gradio shares by itself in hosted notebooks
        "mcp_server": True,
        "app_kwargs": {"middleware": [Middleware(ApiMiddleware, api=api.app)]},
        "quiet": True,
    }
