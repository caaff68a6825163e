"""What the operator decides: command line first, then environment, then defaults."""

import argparse
import ipaddress
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BeforeValidator, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .errors import BadInput
from .zero_gpu import is_zero_gpu

DEFAULT_CHECKPOINT = "PekingU/rtdetr_r50vd_coco_o365"

Runtime = Literal["auto", "bf16", "torch"]
RUNTIMES: tuple[str, ...] = get_args(Runtime)
DeviceRuntime = Literal["off", "on", "live"]


def _device_runtime() -> DeviceRuntime:
    # A ZeroGPU Space lends each visitor a few minutes a day: a camera would use them up at once.
    return "live" if is_zero_gpu() else "on"


_SECRET = ("api_keys", "auth")
"""A command line is there for everyone to read: these come from the environment alone."""


def _words(given: object) -> object:
    if isinstance(given, str):
        return tuple(word.strip() for word in given.split(",") if word.strip())
    return given


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]


class Settings(BaseSettings):
    """What the operator sets: `api_rate`, say, by `--api-rate` of `app.py`, or else by the
    environment variable RTDETR_API_RATE. Secrets come from the environment alone."""

    model_config = SettingsConfigDict(
        env_prefix="RTDETR_", env_ignore_empty=True, populate_by_name=True, frozen=True
    )

    checkpoint: str = Field(DEFAULT_CHECKPOINT, description="hub id, local folder or 'bundled'")
    any_checkpoint: bool = Field(False, description="let visitors load any hub id or local folder")
    model_memory_gb: float = Field(
        4.0, gt=0, description="drop the least recently used model past this"
    )
    runtime: Runtime = Field(
        "auto",
        description="on a CPU, 'auto': OpenVINO once it is ready, 'bf16': the same in half "
        "precision, 'torch': PyTorch alone",
    )
    device: str = Field(
        "auto",
        description="what detects: 'auto' (the best that is there), 'cpu', 'cuda', a certain GPU "
        "such as 'cuda:1', or 'mps'",
    )
    device_runtime: DeviceRuntime = Field(
        default_factory=_device_runtime,
        description="whether visitors' own devices may detect: 'off', 'on', or 'live' where the "
        "camera begins with it (by default on a ZeroGPU Space)",
    )
    allowed_hosts: Words = Field(
        (),
        description="comma-separated private hosts (host or host:port) that picture URLs may name",
    )
    live_viewers: int = Field(16, ge=1, description="people who may watch live at once")
    video_minutes: float = Field(15, gt=0, description="longest video that is taken")
    video_mb: int = Field(512, ge=1, description="largest video file that is taken")
    video_megapixels: float = Field(8.3, gt=0, description="largest video frame that is taken")
    data_dir: Path | None = Field(
        None, description="folder for uploads and results (default: among temporary files)"
    )
    data_gb: float = Field(
        4.0, gt=0, description="room that uploads, results and videos may take in all"
    )
    api_queue: int = Field(128, ge=1, description="most pictures under way at once")
    api_share: int = Field(64, ge=1, description="most of these of one key or address")
    api_rate: int = Field(
        0, ge=0, description="most pictures a minute of one key or address (0: any number)"
    )
    patience: float = Field(
        10, gt=0, description="seconds that a request's head or body, or an answer, may stand still"
    )
    api_keys: Words = Field((), repr=False, description="comma-separated API keys")
    auth: Words = Field(
        (), repr=False, description="comma-separated name:password of who may log in to the page"
    )
    trusted_hosts: Words = Field(
        (), description="comma-separated names that the demo answers to, as behind a proxy"
    )
    host: str | None = Field(
        None, validation_alias="GRADIO_SERVER_NAME", description="address to listen on"
    )
    port: int | None = Field(
        None, ge=0, le=65535, validation_alias="GRADIO_SERVER_PORT", description="port to listen on"
    )

    @field_validator("device")
    @classmethod
    def _is_device(cls, name: str) -> str:
        name = name.strip().lower() or "auto"
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", name):
            raise ValueError("choose auto, cpu, cuda, a certain GPU such as cuda:1, or mps")
        return name

    @field_validator("auth")
    @classmethod
    def _are_pairs(cls, pairs: tuple[str, ...]) -> tuple[str, ...]:
        if not all(name and password for name, _, password in (p.partition(":") for p in pairs)):
            raise ValueError("write it as name:password, several with commas between")
        return pairs

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add an option for every field that is no secret."""
        for name, setting in cls.model_fields.items():
            if name not in _SECRET:
                kind: dict[str, Any] = {"metavar": name.split("_")[-1].upper()}
                if setting.annotation is bool:
                    kind = {"action": "store_true"}
                elif get_origin(setting.annotation) is Literal:
                    kind = {"choices": get_args(setting.annotation)}
                parser.add_argument(
                    "--" + name.replace("_", "-"),
                    default=argparse.SUPPRESS,
                    help=_help(name, setting),
                    **kind,
                )

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> "Settings":
        """Of the options that were given, the environment and the defaults, in this order.

        Raises BadInput, in a sentence, for a value that cannot be.
        """
        given = {name: value for name, value in vars(options).items() if name in cls.model_fields}
        try:
            return cls(**given)
        except ValidationError as error:
            wrong = error.errors()[0]
            name = _name(str(wrong["loc"][0]))
            where = f"--{name.replace('_', '-')}" if name in given else _variable(name)
            reason = wrong["msg"].removeprefix("Value error, ")
            if name in _SECRET:
                raise BadInput(f"{where} is not valid: {reason}.") from None
            raise BadInput(f"{where} cannot be {wrong['input']!r}: {reason}.") from None

    @classmethod
    def from_command_line(cls, arguments: Sequence[str] | None = None) -> "Settings":
        """Read `arguments` (sys.argv by default) and the environment; a wrong value ends the
        process with a sentence."""
        parser = argparse.ArgumentParser(
            prog="app.py", description="Serve the RT-DETR demo: the page and its API."
        )
        cls.add_arguments(parser)
        try:
            return cls.from_options(parser.parse_args(arguments))
        except BadInput as error:
            parser.error(str(error))

    @property
    def share(self) -> bool:
        """Whether Gradio shall tunnel the demo to a public address (GRADIO_SHARE)."""
        return os.environ.get("GRADIO_SHARE", "").lower() == "true"

    @property
    def users(self) -> dict[str, str]:
        """Passwords of who may log in, by name; none: the page is open to all."""
        return dict(pair.split(":", 1) for pair in self.auth)

    @property
    def api_access(self) -> str:
        """Who may use the API: holders of "keys"; without any, clients on this machine
        ("open") or, where others can reach the demo or a login is set, nobody ("closed")."""
        if self.api_keys:
            return "keys"
        return "open" if self.is_local and not self.auth else "closed"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the demo."""
        host = self.host or "127.0.0.1"
        if self.share:
            return False
        try:
            return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
        except ValueError:
            return False


def _variable(name: str) -> str:
    alias = Settings.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else f"RTDETR_{name.upper()}"


def _name(place: str) -> str:
    return {"GRADIO_SERVER_NAME": "host", "GRADIO_SERVER_PORT": "port"}.get(place, place)


def _help(name: str, setting: FieldInfo) -> str:
    default = setting.get_default(call_default_factory=True)
    says_nothing = default is None or default is False or default == ()
    tail = "" if says_nothing else f"; default {default}"
    return f"{setting.description} ({_variable(name)}{tail})".replace("%", "%%")
