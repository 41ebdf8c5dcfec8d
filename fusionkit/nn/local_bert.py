"""Hugging Face models that lie in a folder, and the token ids that they read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from fusionkit.errors import ConfigError, DataError
from fusionkit.ops.lengths import within

_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")


def import_transformers() -> Any:
    """The package transformers, which only these models need.

    Raises:
        ConfigError: it is not installed.
    """
    if find_spec("transformers") is None:
        raise ConfigError(
            "bert: the package 'transformers' is missing; pip install 'fusionkit-torch[bert]'"
        )
    return import_module("transformers")


def load_local_bert(folder: str) -> Any:
    """The model in a folder, in float32; nothing is downloaded, unpickled or run from the folder.

    Args:
        folder: as `transformers.AutoModel.from_pretrained` takes it.

    Raises:
        ConfigError: transformers is not installed, or the folder holds no model in safetensors.
    """
    transformers = import_transformers()
    if not Path(folder).is_dir():
        raise ConfigError(f"bert: {folder!r} is no folder; give that of a local model")
    # Older versions of transformers ignore use_safetensors where the folder is a local one.
    if not any((Path(folder) / name).is_file() for name in _SAFETENSORS):
        raise ConfigError(
            f"bert: no model can be read from {folder!r}: it has no model.safetensors; write one "
            "with model.save_pretrained of transformers"
        )
    try:
        with _no_progress_bar(transformers.utils.logging):
            model = transformers.AutoModel.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"bert: no model can be read from {folder!r}: {error}") from error
    return model.float()


@contextmanager
def _no_progress_bar(logging: Any) -> Iterator[None]:
    """Weights are read from the disk at once, and the run has a bar of its own."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def token_ids(
    x: Tensor, lengths: Tensor, *, vocabulary: int, max_tokens: int | None = None
) -> Tensor:
    """Token ids (B, T) int64 from features (B, T, D): column 0, and 0 on padding.

    Args:
        x: ids are whole numbers in [0, vocabulary); columns after the first, and what stands on
            the padding, are not looked at.
        lengths: (B,) in [0, T]. max_tokens: T may be at most so many; None: any number.

    Raises:
        DataError: a valid entry is no id of the vocabulary, or the sequence is too long.
    """
    if max_tokens is not None and x.shape[1] > max_tokens:
        raise DataError(f"bert: {x.shape[1]} tokens, the model takes at most {max_tokens}")
    column = x[..., 0].masked_fill(~within(lengths, x.shape[1]), 0.0)
    ids = column.long()
    # A traced or captured graph cannot depend on values.
    capturing = x.is_cuda and torch.cuda.is_current_stream_capturing()
    if not (torch.compiler.is_compiling() or capturing) and bool(
        ((ids != column) | (ids < 0) | (ids >= vocabulary)).any()
    ):
        wrong = float(column[(ids != column) | (ids < 0) | (ids >= vocabulary)].flatten()[0])
        cure = "" if wrong.is_integer() else "; set data.normalise=false and train.input_noise=0"
        raise DataError(
            f"bert: column 0 must hold token ids, whole numbers from 0 to {vocabulary - 1}, and "
            f"holds {wrong:g}{cure}"
        )
    return ids
