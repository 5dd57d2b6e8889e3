"""One webhook: to the address that was checked, in the host's name."""

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.arc.receiver import receiving
from workers import webhooks
from workers.webhooks import Delivery, Sent

LOCAL = frozenset({"localhost"})


async def send(url: str, allowed: frozenset[str] = LOCAL, seconds: float = 20) -> Sent:
    delivery = Delivery(url=url, headers={"X-A": "b"}, body=b"{}")
    return await webhooks.send(delivery, allowed_hosts=allowed, timeout_seconds=seconds)


async def test_a_name_that_leads_inside_is_not_called():
    async with receiving() as receiver:
        port = receiver.url.rpartition(":")[2]
        for host in ("localhost", "127.1", "2130706433", "0x7f000001"):
            sent = await send(f"https://{host}:{port}/", frozenset())
            assert sent.is_final
            assert "private" in (sent.failure or "")
    assert receiver.heard == []


async def test_a_name_that_is_allowed_is_called_by_its_name():
    async with receiving() as receiver:
        port = receiver.url.rpartition(":")[2]
        assert await send(f"http://localhost:{port}/x") == Sent()
    (headers, body), *_ = receiver.heard
    assert (headers["host"], headers["path"], body) == (f"localhost:{port}", "/x", b"{}")
    assert headers["x-a"] == "b"


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with receiving() as receiver:
        port = receiver.url.rpartition(":")[2]
        assert await send(f"http://localhost:{port}/") == Sent()


async def test_nobody_there_is_a_failure_that_may_pass(dead_port: int):
    sent = await send(f"http://localhost:{dead_port}/")
    assert sent.failure == "ConnectError"
    assert not sent.is_final


async def test_silence_ends():
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        sent = await send(f"http://localhost:{port}/", seconds=0.5)
    assert sent.failure is not None
    assert not sent.is_final


@pytest.mark.parametrize(("name", "is_delivered"), [("localhost", True), ("elsewhere", False)])
async def test_a_certificate_must_be_the_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, *, is_delivered: bool
):
    certificate, key = certify(name, tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    webhooks._trusted.cache_clear()
    try:
        async with answering_over_tls(certificate, key) as port:
            sent = await send(f"https://localhost:{port}/")
    finally:
        webhooks._trusted.cache_clear()
    assert (sent == Sent()) is is_delivered


@pytest.fixture
def dead_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.asynccontextmanager
async def answering_over_tls(certificate: Path, key: Path) -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n{}")
            writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


def certify(name: str, folder: Path) -> tuple[Path, Path]:
    """Make a certificate for a name, which vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, secret
