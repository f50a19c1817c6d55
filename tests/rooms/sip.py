"""LiveKit's SIP API, as far as the telephone example needs it: no call is dialled anywhere.

A worker connects to this instead of the LiveKit server. Requests to the SIP service are answered
here and kept; everything else goes to the server and back as it is.
"""

from __future__ import annotations

import asyncio
from typing import Self

import aiohttp
from aiohttp import web
from livekit import api

from .livekit_server import LiveKit

PORT = 7899
_PASSED_ON = ("Authorization", "Content-Type", "Sec-WebSocket-Protocol")


class SipService:
    """Stands before a LiveKit server while its block runs."""

    def __init__(self, livekit: LiveKit) -> None:
        self._livekit = livekit
        self._target = f"http://{livekit.url.removeprefix('ws://')}"
        self.url = f"ws://{livekit.address}:{PORT}"
        self.transfers: list[api.TransferSIPParticipantRequest] = []
        self.busy: set[str] = set()
        """Where nobody answers."""

    @property
    def environment(self) -> dict[str, str]:
        """What a worker needs to know."""
        return {**self._livekit.environment, "LIVEKIT_URL": self.url}

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession()
        app = web.Application()
        app.router.add_post("/twirp/livekit.SIP/TransferSIPParticipant", self._transfer)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._livekit.address, PORT).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()
        await self._runner.cleanup()

    async def _transfer(self, request: web.Request) -> web.Response:
        transfer = api.TransferSIPParticipantRequest.FromString(await request.read())
        self.transfers.append(transfer)
        if transfer.transfer_to in self.busy:
            problem = {
                "code": "failed_precondition",
                "msg": "transfer failed",
                "meta": {"sip_status_code": "486", "sip_status": "Busy Here"},
            }
            return web.json_response(problem, status=412)
        answer = api.TransferSIPParticipantResponse()
        return web.Response(body=answer.SerializeToString(), content_type="application/protobuf")

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        url = f"{self._target}{request.path_qs}"
        headers = {name: value for name, value in request.headers.items() if name in _PASSED_ON}
        if request.headers.get("Upgrade", "").lower() == "websocket":
            async with self._client.ws_connect(url, headers=headers, max_msg_size=0) as server:
                worker = web.WebSocketResponse(max_msg_size=0)
                await worker.prepare(request)
                pipes = [
                    asyncio.ensure_future(_pipe(server, worker)),
                    asyncio.ensure_future(_pipe(worker, server)),
                ]
                await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
                for pipe in pipes:
                    pipe.cancel()
                await worker.close()
                return worker
        body = await request.read()
        async with self._client.request(request.method, url, headers=headers, data=body) as answer:
            return web.Response(
                status=answer.status, body=await answer.read(), content_type=answer.content_type
            )


Socket = aiohttp.ClientWebSocketResponse | web.WebSocketResponse


async def _pipe(source: Socket, target: Socket) -> None:
    async for message in source:
        match message.type:
            case aiohttp.WSMsgType.BINARY:
                await target.send_bytes(message.data)
            case aiohttp.WSMsgType.TEXT:
                await target.send_str(message.data)
