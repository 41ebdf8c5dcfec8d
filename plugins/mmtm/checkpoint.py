"""Parameters of the released MMTM module under FusionKit's names."""

from __future__ import annotations

import re

from fusionkit import CheckpointError

_LAYERS = {"squeeze": "squeeze", "visual": "excitations.0", "skeleton": "excitations.1"}


def module_name(name: str) -> str:
    """Name of a parameter of the released module in `fusionkit.nn.SqueezeExcitationFusion`.

    >>> module_name("fc_skeleton.bias")
    'excitations.1.bias'

    Raises:
        CheckpointError: the released module has no such parameter.
    """
    if match := re.fullmatch(r"fc_(squeeze|visual|skeleton)\.(weight|bias)", name):
        return f"{_LAYERS[match[1]]}.{match[2]}"
    raise CheckpointError(f"{name!r} is no parameter of the released MMTM module")
