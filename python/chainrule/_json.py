"""Numbers for JSON, which has none that are not finite."""

import math
from typing import Any


def jsonable(value: Any) -> Any:
    """Return dictionaries and lists with None in place of NaN and infinities."""
    if isinstance(value, dict):
        return {name: jsonable(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
