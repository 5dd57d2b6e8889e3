from typing import Any

import pytest
from fastapi import FastAPI

SUCCESSES = {"200", "201", "202"}


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def has_example(document: dict[str, Any], media: dict[str, Any]) -> bool:
    schema = media["schema"]
    for option in (schema, *schema.get("anyOf", [])):
        name = option.get("$ref", "").rpartition("/")[2]
        if document["components"]["schemas"].get(name, {}).get("examples"):
            return True
    return "example" in media


@pytest.fixture
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def test_every_route_is_described(document: dict[str, Any]):
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name


def test_every_route_but_public_ones_asks_for_a_token(document: dict[str, Any]):
    for name, operation in operations(document):
        is_ours = "/v1/" in name or name == "POST /arc"
        assert bool(operation.get("security")) == is_ours, name


def test_every_mutating_route_takes_an_idempotency_key(document: dict[str, Any]):
    for name, operation in operations(document):
        method, _, path = name.partition(" ")
        taken = [
            each["name"] for each in operation.get("parameters", ()) if each["in"] == "header"
        ]
        wanted = path != "/health" and method in {"POST", "PUT", "PATCH", "DELETE"}
        assert taken.count("Idempotency-Key") == wanted, name
        # ARC tells of a conflict in its own errors, with 200.
        assert not wanted or "409" in operation["responses"] or path == "/arc", name


def test_every_body_and_answer_has_an_example(document: dict[str, Any]):
    for name, operation in operations(document):
        for status, answer in operation["responses"].items():
            for media_type, media in answer.get("content", {}).items():
                assert has_example(document, media), (name, status, media_type)
        for media in operation.get("requestBody", {}).get("content", {}).values():
            assert has_example(document, media), name


def test_every_route_tells_its_success_and_its_problems(document: dict[str, Any]):
    for name, operation in operations(document):
        statuses = set(operation["responses"])
        assert statuses & {*SUCCESSES, "204"}, name
        if "/v1/" in name:
            assert {"401", "422", "503"} <= statuses, name
        for status in statuses - {*SUCCESSES, "204"}:
            if "/v1/" in name:
                content = operation["responses"][status]["content"]
                assert set(content) == {"application/problem+json"}, (name, status)


def test_all_names_on_the_wire_are_camel_case(document: dict[str, Any]):
    for name, schema in document["components"]["schemas"].items():
        for field in schema.get("properties", {}):
            assert "_" not in field, (name, field)


def test_operation_ids_are_unique(document: dict[str, Any]):
    found = [operation["operationId"] for _, operation in operations(document)]
    assert len(found) == len(set(found))


def test_every_reference_resolves(document: dict[str, Any]):
    known = document["components"]["schemas"]

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(ref := node.get("$ref"), str):
                assert ref.rpartition("/")[2] in known, ref
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)
