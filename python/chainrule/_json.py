"""Numbers for JSON, which has none that are not finite."""

import math
from typing import Any


def jsonable(values: dict[str, Any]) -> dict[str, Any]:
    """Return dictionaries and lists, one within another, with None in place of NaN and infinities."""
    return {name: _jsonable(value) for name, value in values.items()}


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return jsonable(value)
    if isinstance(value, (list, tuple)):
        return [_jsonable(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
