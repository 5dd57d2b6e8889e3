"""JSON Merge Patch (RFC 7396): what a partial object changes in another. Pure."""

from typing import Any, cast


def merge(target: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Return the patched target: null removes a key, objects merge, all else replaces.

    Args: patch: nested no deeper than free JSON may be.
    """
    merged = dict(target)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            before = merged.get(key)
            base = cast("dict[str, Any]", before) if isinstance(before, dict) else {}
            merged[key] = merge(base, cast("dict[str, Any]", value))
        else:
            merged[key] = value
    return merged
