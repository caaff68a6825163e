"""What the operator decides: command line first, then environment, then defaults."""

import argparse
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

DEFAULT_CHECKPOINT = "PekingU/rtdetr_r50vd_coco_o365"
RUNTIMES = ("auto", "bf16", "torch")


@dataclass(frozen=True)
class Settings:
    """`allowed_hosts`: private hosts (`host` or `host:port`) that picture URLs may name;
    `api_queue` and `api_share`: pictures that wait in all and for one client; `api_rate`: pictures
    a minute for one client (0: no limit)."""

    checkpoint: str = DEFAULT_CHECKPOINT
    any_checkpoint: bool = False
    model_memory_gb: float = 4.0
    runtime: str = "auto"
    allowed_hosts: tuple[str, ...] = ()
    live_viewers: int = 16
    video_minutes: float = 15
    video_mb: int = 512
    video_megapixels: float = 8.3
    api_queue: int = 128
    api_share: int = 64
    api_rate: int = 0
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    host: str | None = None
    port: int | None = None

    @classmethod
    def from_command_line(cls, arguments: Sequence[str] | None = None) -> "Settings":
        environ = os.environ
        parser = argparse.ArgumentParser(
            prog="app.py", description="Serve the RT-DETR demo: the page and its API."
        )
        parser.add_argument(
            "--checkpoint",
            default=environ.get("RTDETR_CHECKPOINT", cls.checkpoint),
            help="hub id, local folder or 'bundled' (RTDETR_CHECKPOINT; default %(default)s)",
        )
        parser.add_argument(
            "--any-checkpoint",
            action="store_true",
            default=environ.get("RTDETR_ANY_CHECKPOINT", "") not in ("", "0"),
            help="let visitors load any hub id or local folder (RTDETR_ANY_CHECKPOINT)",
        )
        parser.add_argument(
            "--model-memory-gb",
            type=float,
            default=environ.get("RTDETR_MODEL_MEMORY_GB", str(cls.model_memory_gb)),
            help="drop the least recently used model past this (RTDETR_MODEL_MEMORY_GB; "
            "default %(default)s)",
        )
        parser.add_argument(
            "--runtime",
            choices=RUNTIMES,
            default=environ.get("RTDETR_RUNTIME", cls.runtime),
            help="on a CPU, 'auto': OpenVINO once it is ready, 'bf16': the same in half precision, "
            "'torch': PyTorch alone (RTDETR_RUNTIME; default %(default)s)",
        )
        parser.add_argument(
            "--allowed-hosts",
            type=_words,
            default=_words(environ.get("RTDETR_ALLOWED_HOSTS", "")),
            help="comma-separated private hosts that picture URLs may name (RTDETR_ALLOWED_HOSTS)",
        )
        parser.add_argument(
            "--live-viewers",
            type=int,
            default=environ.get("RTDETR_LIVE_VIEWERS", str(cls.live_viewers)),
            help="people who may watch live at once (RTDETR_LIVE_VIEWERS; default %(default)s)",
        )
        for name, kind, what in [
            ("video_minutes", float, "longest video that is taken"),
            ("video_mb", int, "largest video file that is taken"),
            ("video_megapixels", float, "largest video frame that is taken"),
            ("api_queue", int, "most pictures of API requests that wait"),
            ("api_share", int, "most of these of one key or address"),
            ("api_rate", int, "most pictures a minute of one key or address (0: any number)"),
        ]:
            variable = f"RTDETR_{name.upper()}"
            parser.add_argument(
                "--" + name.replace("_", "-"),
                type=kind,
                default=environ.get(variable, str(getattr(cls, name))),
                help=f"{what} ({variable}; default %(default)s)",
            )
        parser.add_argument("--host", help="address to listen on (GRADIO_SERVER_NAME)")
        parser.add_argument("--port", type=int, help="port to listen on (GRADIO_SERVER_PORT)")
        # Keys come from the environment alone: a command line is there for everyone to read.
        keys = _words(environ.get("RTDETR_API_KEYS", ""))
        return cls(**vars(parser.parse_args(arguments)), api_keys=keys)

    @property
    def share(self) -> bool:
        """Whether Gradio shall tunnel the demo to a public address (GRADIO_SHARE)."""
        return os.environ.get("GRADIO_SHARE", "").lower() == "true"

    @property
    def api_access(self) -> str:
        """Who may use the API: holders of "keys"; without any, whoever is on this machine ("open")
        or, where others can reach the demo, nobody ("closed")."""
        if self.api_keys:
            return "keys"
        return "open" if self._is_local else "closed"

    @property
    def _is_local(self) -> bool:
        """Whether only this machine can reach the demo."""
        host = self.host or os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")
        if self.share:
            return False
        try:
            return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
        except ValueError:
            return False


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
