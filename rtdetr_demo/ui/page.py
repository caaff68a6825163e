"""The Gradio Blocks that hold the front end, and its launch options."""

from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from ..api.app import Api
from ..api.sessions import MAX_SESSIONS
from ..media.images import MAX_BYTES
from ..serving.result_store import ResultStore
from ..serving.service import Service
from .config import page_config
from .device_files import DeviceFiles, IsolationMiddleware
from .frames import FramesMiddleware
from .front_end import FrontEnd, FrontEndMiddleware
from .functions import server_functions
from .gradio_api import add_api
from .gradio_queue import BoundedQueue
from .inside import add_inspect_api
from .lab import lab_functions
from .mcp import add_tools
from .video import video_functions

TITLE = "RT-DETR, layer by layer"

# All that the page needs of Gradio is handed over here, once.
_MOUNT = """
const here = new URL("{root}/", document.baseURI);
import(new URL("main.js", here)).then((main) =>
  main.mount({{ element, config: props.value, server, upload, base: here.href }}));
"""

# Gradio's frame round the page: no padding, our paper, and the scheme told to whoever inherits it.
_FRAME = """
<style>
  html body { color-scheme: light; --body-background-fill: #f7f7f5; background: #f7f7f5; }
  html body.dark.dark { color-scheme: dark; --body-background-fill: #0f1214; background: #0f1214; }
  html body gradio-app footer > .divider { display: none; }
  html body gradio-app .gradio-container.gradio-container { overflow: visible; }
  html body #page { min-height: 100vh; }
  html body #page .html-container.html-container { padding: 0; }
  html body gradio-app .gradio-container .fillable.fillable { max-width: none; padding: 0; }
</style>
"""


class Page(gr.Blocks):
    """Blocks whose API leaves addresses to our own fetcher, and refuses in sentences."""

    def queue(self, *arguments: Any, **options: Any) -> "Page":
        """Gradio's own, bounded."""
        super().queue(*arguments, **options)
        self._queue = BoundedQueue(self._queue)
        return self

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
                "The request is not valid. Send the picture as a file (with gradio_client, as "
                "handle_file(...)), and the rest as the page's API view describes.",
                print_exception=False,
            ) from None


def _is_address(path: object) -> bool:
    return isinstance(path, str) and path.startswith(("http://", "https://"))


def build(service: Service, front_end: FrontEnd) -> gr.Blocks:
    """Lay out the page."""
    results = ResultStore(service.scratch, max_bytes=service.store_bytes)
    device_files = _device_files(service)
    with Page(
        title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)
    ) as page:
        gr.HTML(
            value=page_config(service, front_end),
            html_template="",
            js_on_load=_MOUNT.format(root=front_end.root),
            server_functions=[
                *server_functions(service, results, device_files),
                *lab_functions(service, results),
                *video_functions(service),
            ],
            apply_default_css=False,
            elem_id="page",
        )
        add_api(service, results)
        add_inspect_api(service, results)
        add_tools(service, results)
    return page


def launch_options(service: Service, api: Api, front_end: FrontEnd) -> dict[str, Any]:
    """How `build`'s page is launched: with its files and the API beside it, and its tools for
    assistants."""
    offers_device = service.settings.device_runtime != "off"
    max_upload = max(MAX_BYTES, service.settings.video_mb * 2**20)
    return {
        "theme": gr.themes.Base(
            primary_hue="teal",
            neutral_hue="stone",
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ),
        "head": _FRAME + _preloads(front_end),
        "footer_links": ["api"],
        "auth": list(service.settings.users.items()) or None,
        "allowed_paths": [str(service.scratch.path)],
        "ssr_mode": False,
        "state_session_capacity": MAX_SESSIONS,
        "share": service.settings.share,  # said, as Gradio shares by itself in hosted notebooks
        "mcp_server": True,
        "app_kwargs": {
            "middleware": api.middleware(
                max_upload,
                *([Middleware(IsolationMiddleware)] if offers_device else []),
                Middleware(
                    FrontEndMiddleware,
                    front_end=front_end,
                    beside=_device_files(service).response,
                ),
                Middleware(FramesMiddleware, service=service),
            )
        },
        "quiet": True,
    }


def _device_files(service: Service) -> DeviceFiles:
    return DeviceFiles(service.scratch.folder("device-models"))


def _preloads(front_end: FrontEnd) -> str:
    """Have the browser fetch our files while Gradio's own are still on their way."""
    root = front_end.root
    links = [("modulepreload", name, "") for name in front_end.modules]
    links.append(("preload", "styles.css", 'as="style"'))
    links.append(("preload", "fonts/inter.woff2", 'as="font" type="font/woff2" crossorigin'))
    return "\n".join(
        f'<link rel="{kind}" href="{root}/{name}" {more}>' for kind, name, more in links
    )
