"""Chats in MongoDB: a document each, removed by a TTL index when a closed one's time is over.

`MongoChatStorage` takes a database of motor's client or of pymongo's AsyncMongoClient. Every
change is one command on one document, with MongoDB's own time (`$$NOW`); reads ask the primary
and writes wait for the majority, so no process sees what may be taken back.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import msgspec
from pymongo import ReadPreference, ReturnDocument, WriteConcern
from pymongo.errors import (
    DuplicateKeyError,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
)

from dispatch import log
from dispatch.chats.chat import RETENTION_SECONDS, Chat, Metadata, Page
from dispatch.errors import Invalid, Unavailable

_log = log.get(__name__)
_MILLISECONDS: Final = 1000
_LAST_CHARACTER: Final = "\U0010ffff"
_IS_OVER: Final = {"$and": [{"$eq": ["$status", "CLOSED"]}, {"$lte": ["$expiresAt", "$$NOW"]}]}


class MongoChatStorage:
    """Chats of one collection. The caller owns the client and closes it."""

    def __init__(self, db: Any, collection_name: str = "arc_chats") -> None:
        self._collection = db.get_collection(
            collection_name,
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern("majority"),
        )

    async def initialize_indexes(self) -> None:
        """Make the index that removes closed chats, and that of the active; twice is once."""
        async with _translated():
            await self._collection.create_index(
                "expiresAt",
                name="arc_expires_at",
                expireAfterSeconds=0,
                partialFilterExpression={"status": "CLOSED"},
            )
            await self._collection.create_index([("status", 1), ("_id", 1)], name="arc_active")

    async def insert(
        self, chat_id: str, *, target_agent: str, metadata: Metadata
    ) -> Chat | None:
        """See ChatStorage. A closed chat past its time makes room."""
        made = uuid4().hex
        is_free = {"$or": [{"$eq": [{"$type": "$status"}, "missing"]}, _IS_OVER]}
        new = {
            "_id": "$_id",
            "made": made,
            "status": "ACTIVE",
            "targetAgent": {"$literal": target_agent},
            "metadata": {"$literal": metadata},
            "createdAt": "$$NOW",
            "updatedAt": "$$NOW",
        }
        try:
            found = await self._change(
                {"_id": chat_id},
                [{"$replaceWith": {"$cond": [is_free, new, "$$ROOT"]}}],
                upsert=True,
            )
        except DuplicateKeyError:  # another made it at the same moment
            return None
        return _chat(found) if found["made"] == made else None

    async def find(self, chat_id: str) -> Chat | None:
        """See ChatStorage. Raises: Invalid, when the document is no chat."""
        async with _translated():
            found = await self._collection.find_one(
                {"_id": chat_id, "$expr": {"$not": [_IS_OVER]}}
            )
        return _chat(found) if found else None

    async def merge(self, chat_id: str, *, metadata: Metadata) -> Chat | None:
        """See ChatStorage."""
        merged = {"$mergeObjects": ["$metadata", {"$literal": metadata}]}
        found = await self._change(
            {"_id": chat_id, "status": "ACTIVE"},
            [{"$set": {"metadata": merged, "updatedAt": "$$NOW"}}],
        )
        return _chat(found) if found else None

    async def close(
        self, chat_id: str, *, reason: str | None, ttl_seconds: float
    ) -> Chat | None:
        """See ChatStorage."""
        closed = {
            "status": "CLOSED",
            "updatedAt": "$$NOW",
            "closedAt": "$$NOW",
            "expiresAt": {"$add": ["$$NOW", int(ttl_seconds * _MILLISECONDS)]},
            "reason": {"$literal": reason},
        }
        found = await self._change({"_id": chat_id, "status": "ACTIVE"}, [{"$set": closed}])
        return _chat(found) if found else None

    async def list_active(self, *, prefix: str, after_id: str, limit: int) -> Page:
        """See ChatStorage."""
        ids = {"$gte": prefix, "$lte": prefix + _LAST_CHARACTER, "$gt": after_id}
        async with _translated():
            found = await (
                self._collection.find({"status": "ACTIVE", "_id": ids})
                .sort("_id", 1)
                .limit(limit)
                .to_list(limit)
            )
        chats = [_readable(each) for each in found]
        return Page(
            [each for each in chats if each is not None],
            found[-1]["_id"] if len(found) == limit else None,
        )

    async def delete_closed(self, *, max_age_seconds: float, limit: int) -> int:
        """See ChatStorage. Those past their time MongoDB mostly has removed already."""
        over = _over(max_age_seconds)
        async with _translated():
            found = await self._collection.find(over, {"_id": 1}).limit(limit).to_list(limit)
            ids = {"$in": [each["_id"] for each in found]}
            return int((await self._collection.delete_many({**over, "_id": ids})).deleted_count)

    async def count_closed(self, *, max_age_seconds: float) -> int:
        """See ChatStorage."""
        async with _translated():
            return int(await self._collection.count_documents(_over(max_age_seconds)))

    async def _change(
        self, wanted: dict[str, Any], steps: list[dict[str, Any]], *, upsert: bool = False
    ) -> dict[str, Any]:
        async with _translated():
            found: dict[str, Any] = await self._collection.find_one_and_update(
                wanted, steps, upsert=upsert, return_document=ReturnDocument.AFTER
            )
            return found


def _over(max_age_seconds: float) -> dict[str, Any]:
    early = int(max(0.0, RETENTION_SECONDS - max_age_seconds) * _MILLISECONDS)
    usual = {"$add": ["$closedAt", int(RETENTION_SECONDS * _MILLISECONDS)]}
    may_go_early = {
        "$and": [
            {"$eq": ["$expiresAt", usual]},
            {"$lte": ["$expiresAt", {"$add": ["$$NOW", early]}]},
        ]
    }
    return {"status": "CLOSED", "$expr": {"$or": [_IS_OVER, may_go_early]}}


@asynccontextmanager
async def _translated() -> AsyncGenerator[None]:
    try:
        yield
    except DuplicateKeyError:
        raise
    except OperationFailure as error:
        passing = isinstance(error, ExecutionTimeout | WriteConcernError)
        if passing or error.has_error_label("RetryableWriteError"):
            raise Unavailable("MongoDB", cause=type(error).__name__) from error
        said = (error.details or {}).get("errmsg", type(error).__name__)
        raise Invalid(f"MongoDB refuses this: {said}.") from error
    except PyMongoError as error:
        raise Unavailable("MongoDB", cause=type(error).__name__) from error


def _readable(found: dict[str, Any]) -> Chat | None:
    """Return a chat, or None for a document that is none: it hides no other."""
    try:
        return _chat(found)
    except Invalid as error:
        _log.warning("chat.unreadable", chat_id=str(found["_id"]), cause=error.what)
        return None


def _chat(found: dict[str, Any]) -> Chat:
    moments = {name: _aware(found.get(name)) for name in _MOMENTS}
    try:
        # BSON's whole numbers of 64 bits come as a type of their own.
        metadata = msgspec.json.encode(found.get("metadata"), enc_hook=int)
        fields = {**found, **moments, "chatId": found["_id"]}
        fields["metadata"] = msgspec.json.decode(metadata)
        return msgspec.convert(fields, Chat)
    except (TypeError, ValueError) as error:
        raise Invalid(
            f"What MongoDB holds of this chat is none: {error}.",
            next_step="Delete that document, or give the storage a collection of its own.",
        ) from error


_MOMENTS: Final = ("createdAt", "updatedAt", "closedAt", "expiresAt")


def _aware(moment: Any) -> Any:
    """MongoDB keeps UTC; a client that is not `tz_aware` leaves that unsaid."""
    is_naive = isinstance(moment, datetime) and moment.tzinfo is None
    return moment.replace(tzinfo=UTC) if is_naive else moment
