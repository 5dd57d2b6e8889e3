"""Who may post over the broker."""

import pytest

from dispatch.config import Settings
from dispatch.errors import NotFound, Unauthenticated
from dispatch.ids import ThreadId, uuid7
from dispatch.operations import post_as_service
from dispatch.operations.post_as_service import ServiceEntry
from dispatch.operations.post_entry import Draft
from dispatch.operations.record import open_record
from dispatch.payloads.chat import Chat
from tests.system.houses import Casa


def message(thread_id: ThreadId, *, token: str | None = None) -> ServiceEntry:
    return ServiceEntry(
        thread_id=thread_id, draft=Draft("hi"), key="k", service="billing", token=token
    )


async def test_a_trusted_service_posts_under_its_own_name(casa: Casa) -> None:
    thread_id = await casa.dm()
    await post_as_service.post_as_service(casa.record, message(thread_id))
    again = await post_as_service.post_as_service(casa.record, message(thread_id))
    assert again.duplicate
    (chat,) = [e.payload for e in await casa.entries(thread_id) if isinstance(e.payload, Chat)]
    assert (chat.by.kind, chat.by.id) == ("service", "billing")


async def test_an_untrusted_broker_needs_a_members_token(
    casa: Casa, settings: Settings
) -> None:
    strict = settings.model_copy(update={"trust_broker_producers": False})
    thread_id = await casa.dm()
    async with open_record(strict) as record:
        with pytest.raises(Unauthenticated):
            await post_as_service.post_as_service(record, message(thread_id))
        posted = await post_as_service.post_as_service(
            record, message(thread_id, token=casa.token)
        )
        assert not posted.duplicate
        with pytest.raises(NotFound):
            await post_as_service.post_as_service(
                record, message(ThreadId(uuid7()), token=casa.token)
            )
