"""Somebody who clicks in a browser elsewhere: speaks Streamlit's protocol, and draws nothing on this machine."""

from __future__ import annotations

import asyncio
import time

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

DRAWING = 0.5
"""Seconds that a browser takes to show what it was sent, before its person clicks again."""


async def _run(socket: ClientConnection, query: str) -> float:
    """Have the page run with other parameters, and return how many milliseconds the server took until all of it was here."""
    message = BackMsg()
    message.rerun_script.query_string = query
    message.rerun_script.page_name = "browse"
    start = time.perf_counter()
    await socket.send(message.SerializeToString())
    while True:
        found = ForwardMsg()
        said = await socket.recv()
        assert isinstance(said, bytes)
        found.ParseFromString(said)
        if found.WhichOneof("type") == "script_finished":
            return 1e3 * (time.perf_counter() - start)


async def click_about(base: str, queries: list[str], stop: asyncio.Event) -> list[float]:
    """Open Browse, and go from one address to the next until told to stop; return the milliseconds of each."""
    took = []
    address = base.replace("http://", "ws://") + "/_stcore/stream"
    async with connect(address, subprotocols=["streamlit"], max_size=None, origin=base) as socket:  # type: ignore[list-item,arg-type]
        at = 0
        while not stop.is_set():
            took.append(await _run(socket, queries[at % len(queries)]))
            await asyncio.sleep(DRAWING)
            at += 1
    return took[1:]
