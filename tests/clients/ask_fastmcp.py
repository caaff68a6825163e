"""fastmcp: its client."""

import asyncio
import json

from fastmcp import Client
from shared_form import DATA_URI, URL, report


async def ask() -> list[str]:
    async with Client(f"{URL}/gradio_api/mcp") as client:
        [tool] = await client.list_tools()
        result = await client.call_tool(tool.name, {"image": DATA_URI})
        [text] = [part.text for part in result.content if part.type == "text"]
        return [one["label"] for one in json.loads(text)["detections"]]


report(call_tool=asyncio.run(ask()))
