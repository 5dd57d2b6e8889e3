"""What may stand on a stream: the codec and the three groups."""

import msgspec
import pytest

from dispatch import payloads
from dispatch.errors import Invalid
from dispatch.payloads.chat import Author, Chat
from dispatch.payloads.llm import Assistant, Chunk
from dispatch.payloads.signals import Completed, Heartbeat, Queued, ThreadCreated

CHAT = Chat(by=Author("member", "m", "Ann"), text="hi")
CHUNK = Chunk(kind="text", message_id="m", content_index=0, delta="h")
ASSISTANT = Assistant(message_id="m", turn_index=0, message={"role": "assistant"})
QUEUED = Queued(dispatch_id="d", entry_id="e", agent_id="a", max_attempts=3)
BEAT = Heartbeat(dispatch_id="d", run_id="r")


@pytest.mark.parametrize(
    "payload",
    [CHAT, CHUNK, ASSISTANT, QUEUED, BEAT, ThreadCreated(), Completed(dispatch_id="d")],
)
def test_a_payload_reads_as_it_was_written(payload: payloads.KnownPayload) -> None:
    assert payloads.decode(payloads.encode(payload)) == payload


def test_each_payload_is_in_one_group() -> None:
    newer = payloads.decode(b'{"type":"signal.permission.newer","x":1}')
    groups = [
        (
            payloads.is_chat_payload(each),
            payloads.is_llm_payload(each),
            payloads.is_signal_payload(each),
        )
        for each in (CHAT, CHUNK, QUEUED, newer)
    ]
    chat, llm, signal = (True, False, False), (False, True, False), (False, False, True)
    assert groups == [chat, llm, signal, signal]


def test_chunks_and_beats_may_vanish_and_only_the_agents_words_are_effects() -> None:
    every = (CHAT, CHUNK, ASSISTANT, QUEUED, BEAT)
    assert [each for each in every if payloads.is_ephemeral(each)] == [CHUNK, BEAT]
    assert [each for each in every if payloads.is_effect(each)] == [CHUNK, ASSISTANT]


def test_a_newer_type_is_kept_byte_for_byte() -> None:
    raw = b'{"type":"pi.newer","deep":{"n":12345678901234567890}}'
    found = payloads.decode(raw)
    assert found == payloads.Unknown("pi.newer", raw)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"type":1}', b'{"type":"chat"}', b"{"])
def test_what_is_no_payload_is_refused(raw: bytes) -> None:
    with pytest.raises(Invalid):
        payloads.decode(raw)


def test_the_known_types_are_those_of_the_union() -> None:
    union = {
        str(struct.__struct_config__.tag)
        for struct in msgspec.inspect.type_info(payloads.KnownPayload).types  # type: ignore[attr-defined]
        for struct in [struct.cls]
    }
    assert union == payloads.KNOWN_TYPES
