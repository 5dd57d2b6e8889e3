"""The ARC documents' code as it stands there, but for import, endpoint and token."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from dispatch.client import Client, ThreadManager
from tests.api.loopback import serving


@contextlib.asynccontextmanager
async def serving_socket(app: Any) -> AsyncIterator[str]:
    async with serving(app) as url:
        yield url.replace("http", "ws") + "/ws"


def fastapi_example(endpoint: str, token: str) -> FastAPI:
    app = FastAPI()

    @app.websocket("/ws")
    async def websocket_endpoint(websocket: WebSocket):
        await websocket.accept()

        # Create per-connection instances
        arc_client = Client(endpoint=endpoint, token=token)
        thread_manager = ThreadManager(arc_client)

        try:
            while True:
                # Receive message
                data = await websocket.receive_json()

                # Route to agent (automatic chat.start vs chat.message)
                response = await thread_manager.send_to_agent(
                    agent_id=data["agent_id"],
                    message=data["message"],
                    trace_id=data.get("trace_id"),
                )

                # Send response
                await websocket.send_json(response.to_dict())

        except WebSocketDisconnect:
            # Cleanup on disconnect
            await thread_manager.end_all_chats()
        finally:
            await arc_client.close()

    return app


def starlette_example(endpoint: str, token: str) -> Starlette:
    async def websocket_endpoint(websocket: WebSocket):
        await websocket.accept()

        arc_client = Client(endpoint=endpoint, token=token)
        thread_manager = ThreadManager(arc_client)

        try:
            while True:
                data = await websocket.receive_json()

                response = await thread_manager.send_to_agent(
                    agent_id=data["agent_id"], message=data["message"]
                )

                await websocket.send_json(response.to_dict())

        except WebSocketDisconnect:
            await thread_manager.end_all_chats()
        finally:
            await arc_client.close()

    return Starlette(routes=[WebSocketRoute("/ws", websocket_endpoint)])


def streaming_example(endpoint: str, token: str) -> FastAPI:
    app = FastAPI()

    @app.websocket("/ws")
    async def websocket_endpoint(websocket: WebSocket):
        await websocket.accept()

        arc_client = Client(endpoint=endpoint, token=token)
        thread_manager = ThreadManager(arc_client)

        try:
            while True:
                data = await websocket.receive_json()

                # Stream response
                async for event in await thread_manager.send_to_agent(
                    agent_id=data["agent_id"], message=data["message"], stream=True
                ):
                    if event.event == "content":
                        await websocket.send_json({"type": "content", "data": event.data})
                    elif event.event == "done":
                        await websocket.send_json({"type": "done", "data": event.data})
                        break
                    elif event.event == "error":
                        await websocket.send_json({"type": "error", "data": event.data})
                        break

        except WebSocketDisconnect:
            await thread_manager.end_all_chats()
            await arc_client.close()  # the example leaves it open

    return app


def multi_agent_example(endpoint: str, token: str) -> FastAPI:
    app = FastAPI()

    @app.websocket("/ws")
    async def websocket_endpoint(websocket: WebSocket):
        await websocket.accept()

        arc_client = Client(endpoint=endpoint, token=token)
        thread_manager = ThreadManager(arc_client)

        try:
            while True:
                data = await websocket.receive_json()

                # Route to different agents
                agent_id = data["agent_id"]  # "support", "finance", "hr", etc.

                response = await thread_manager.send_to_agent(
                    agent_id=agent_id, message=data["message"]
                )

                await websocket.send_json(
                    {"agent_id": agent_id, "response": response.to_dict()}
                )

        except WebSocketDisconnect:
            # End all chats with all agents
            await thread_manager.end_all_chats()
            await arc_client.close()  # the example leaves it open

    return app


def state_guide_example(endpoint: str, token: str) -> FastAPI:
    app = FastAPI()

    @app.websocket("/ws")
    async def websocket_endpoint(websocket: WebSocket):
        await websocket.accept()

        # Create per-connection instances
        arc_client = Client(endpoint=endpoint, token=token)
        thread_manager = ThreadManager(arc_client)

        try:
            while True:
                data = await websocket.receive_json()
                response = await thread_manager.send_message(
                    target_agent=data["agent_id"], message=data["message"]
                )
                await websocket.send_json(response)
        except WebSocketDisconnect:
            # Cleanup automatically
            await thread_manager.end_all_chats()
            await arc_client.close()  # the example leaves it open

    return app
