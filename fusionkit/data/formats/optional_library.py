"""Libraries that only some sources need."""

from __future__ import annotations

import importlib
from typing import Any

from fusionkit.errors import DataError


def load_library(name: str, extra: str, where: str) -> Any:
    """Import a library that an extra of the distribution brings.

    Args:
        name: of the module. extra: of the distribution. where: file or source that needs it.

    Raises:
        DataError: it is not installed, or cannot be loaded.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise DataError(
            f"{where}: needs {name}, which cannot be imported ({error}); "
            f"run pip install 'fusionkit-torch[{extra}]'"
        ) from error
