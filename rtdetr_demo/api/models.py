"""`GET /v1/models`: the checkpoints that may be named, with what was published about them."""

import time
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from ..checkpoints.catalog import BUNDLED, CATALOGUE, describe
from ..serving.service import Service
from .errors import Error, documented


class PublishedNumbers(BaseModel):
    """Millions of parameters; GFLOPs for 640x640; frames per second on one T4 (TensorRT FP16,
    batch 1); COCO val2017 AP in percent. `null`: not published."""

    params: float | None
    gflops: float | None
    t4_fps: float | None
    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_s: float | None
    ap_m: float | None
    ap_l: float | None


class Model(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    title: str
    trained_on: str
    decoder_layers: int | None
    published: PublishedNumbers
    here: bool
    """Whether it is on this machine."""
    loaded: bool
    """Whether it is in memory."""
    serving: bool
    """Whether it is what the page and /v1/detect use by default."""


class Models(BaseModel):
    object: Literal["list"]
    data: list[Model]


_STARTED = int(time.time())


def routes(service: Service) -> APIRouter:
    router = APIRouter(tags=["OpenAI"])

    def describe_model(name: str) -> dict:
        known = describe(name).to_json()
        return {
            "id": name,
            "object": "model",
            "created": _STARTED,
            "owned_by": "this demo" if name == BUNDLED else name.partition("/")[0],
            **{key: known[key] for key in ("title", "trained_on", "decoder_layers", "published")},
            "here": service.checkpoints.store.is_here(name),
            "loaded": name in service.checkpoints.store.loaded(),
            "serving": name == service.checkpoints.active,
        }

    @router.get(
        "/v1/models",
        response_model=Models,
        responses=documented(401, 500, 503),
        summary="The checkpoints",
    )
    def models() -> dict:
        names = [
            service.checkpoints.active,
            service.checkpoints.wanted,
            *(one.id for one in CATALOGUE),
        ]
        return {"object": "list", "data": [describe_model(name) for name in dict.fromkeys(names)]}

    @router.get(
        "/v1/models/{model:path}",
        response_model=Model,
        responses={**documented(401, 404, 500, 503), "default": {"model": Error}},
        summary="One checkpoint",
    )
    def model(model: str) -> dict:
        return describe_model(service.checkpoints.check(model))

    return router
