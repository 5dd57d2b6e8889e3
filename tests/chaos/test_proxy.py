"""The proxy itself: each mode does what a fault of the network does."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.chaos import ports
from tests.chaos.proxy import Proxy

SECONDS = 60.0


@pytest_asyncio.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A way to a server that repeats what it hears."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(data)
        writer.close()

    port = ports.choose()
    server = await asyncio.start_server(echo, ports.LOOPBACK, port)
    way = Proxy(port)
    await way.open()
    yield way
    await way.close()
    server.close()
    await server.wait_closed()


async def connect(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(ports.LOOPBACK, proxy.port)


async def hear(reader: asyncio.StreamReader, *, within: float = SECONDS) -> bytes:
    async with asyncio.timeout(within):
        return await reader.read(1024)


async def test_it_passes_what_is_said_and_what_is_answered(proxy: Proxy) -> None:
    reader, writer = await connect(proxy)
    writer.write(b"word")
    assert await hear(reader) == b"word"
    writer.close()


@pytest.mark.parametrize("mode", ["hang", "hang_up", "hang_down"])
async def test_what_a_hang_held_is_delivered_late(proxy: Proxy, mode) -> None:
    reader, writer = await connect(proxy)
    await proxy.set(mode)
    writer.write(b"word")
    with pytest.raises(TimeoutError):
        await hear(reader, within=0.2)
    await proxy.set("pass")
    assert await hear(reader) == b"word"
    writer.close()


@pytest.mark.parametrize("reset", [False, True])
async def test_a_cut_ends_the_connections_of_this_moment_only(
    proxy: Proxy, *, reset: bool
) -> None:
    reader, writer = await connect(proxy)
    writer.write(b"word")
    assert await hear(reader) == b"word"
    proxy.cut(reset=reset)
    if reset:
        with pytest.raises(ConnectionResetError):
            await hear(reader)
    else:
        assert await hear(reader) == b""
    writer.close()
    await test_it_passes_what_is_said_and_what_is_answered(proxy)


async def test_refused_is_refused_until_it_passes_again(proxy: Proxy) -> None:
    await proxy.set("refuse")
    with pytest.raises(ConnectionRefusedError):
        await connect(proxy)
    await proxy.set("pass")
    await test_it_passes_what_is_said_and_what_is_answered(proxy)


async def test_a_dead_server_is_a_reset(proxy: Proxy) -> None:
    proxy.target = ports.choose()
    reader, writer = await connect(proxy)
    with pytest.raises(ConnectionResetError):
        await hear(reader)
    writer.close()
