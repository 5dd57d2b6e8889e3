"""The OpenAPI document: FastAPI's own, plus the hot routes it does not see and the problems."""

from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from dispatch.api import problems
from dispatch.api.shapes.entries import AcceptedAnswer, PostEntry

DESCRIPTION: Final = """
Post an entry to a thread; the agents it concerns take a turn; the thread's stream tells
everything, live. Errors are RFC 9457 problems with a stable `code` and a `nextStep`.
"""
_REF_TEMPLATE: Final = "#/components/schemas/{model}"
_KEY: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "1 to 255 printable ASCII characters. The same key on the same thread "
    "answers the same entry for two days; unset: every call posts.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "example": "9b2d1e6c-3f0a-4a53-8d53-0c1c5a0c7d11",
}


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, made once per app."""
    if app.openapi_schema:
        return app.openapi_schema
    made = get_openapi(
        title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes
    )
    schemas = made["components"]["schemas"]
    schemas["Problem"] = problems.SCHEMA
    for model in (PostEntry, AcceptedAnswer):
        schema = model.model_json_schema(ref_template=_REF_TEMPLATE)
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    paths = made["paths"]
    paths.setdefault("/v1/threads/{ref}/entries", {})["post"] = _posting(
        "post_entry",
        "Post an entry; the agents it concerns take a turn",
        "Who is woken: agents with trigger mode `always`, and those mentioned. 409 `busy` "
        "names `agentId` and `dispatchId`, 409 `status_mismatch` its `threadStatus`.",
    )
    paths.setdefault("/v1/agents/{ref}/entries", {})["post"] = _posting(
        "post_to_agent",
        "Post an entry to the direct thread with an agent",
        "The oldest direct thread is taken; if there is none, one is made.",
    )
    app.openapi_schema = made
    return made


def _posting(operation_id: str, summary: str, description: str) -> dict[str, Any]:
    answer = {
        "application/json": {"schema": {"$ref": _REF_TEMPLATE.format(model="AcceptedAnswer")}}
    }
    refusals = problems.responses(
        HTTPStatus.NOT_FOUND,
        HTTPStatus.CONFLICT,
        HTTPStatus.GONE,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.TOO_MANY_REQUESTS,
    )
    return {
        "tags": ["entries"],
        "operationId": operation_id,
        "summary": summary,
        "description": description,
        "security": [{"HTTPBearer": []}],
        "parameters": [
            {
                "name": "ref",
                "in": "path",
                "required": True,
                "description": "An id, the beginning of one, or `@handle` of an agent.",
                "schema": {"type": "string"},
            },
            _KEY,
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": _REF_TEMPLATE.format(model="PostEntry")}
                }
            },
        },
        "responses": {
            "201": {"description": "Accepted: it is on the stream.", "content": answer},
            "200": {"description": "It was accepted before, by this key.", "content": answer},
            **{str(status): described for status, described in refusals.items()},
        },
    }
