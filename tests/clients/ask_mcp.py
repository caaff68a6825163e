"""mcp: the official client, at both forms of the address."""

import asyncio
import json

from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from shared_form import DATA_URI, URL, report


async def ask(address: str) -> list[str]:
    async with (
        streamable_http_client(address) as (read, write, *_),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        result = await session.call_tool("detect_objects", {"image": DATA_URI})
        [text] = [part.text for part in result.content if part.type == "text"]
        return [one["label"] for one in json.loads(text)["detections"]]


report(
    slash=asyncio.run(ask(f"{URL}/gradio_api/mcp/")),
    no_slash=asyncio.run(ask(f"{URL}/gradio_api/mcp")),
)
