"""A local Hugging Face model as the front end of a modality of token ids."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fusionkit import ConfigError, DataError
from fusionkit.ops.lengths import within


class LocalBert(nn.Module):
    """Token ids to contextual vectors, by a model that lies in a folder; nothing is downloaded.

    Features are ids in column 0, other columns are ignored; lengths give the attention mask, and
    ids on padding are not looked at. The data must be neither normalised nor noisy
    (``data.normalise=false``, ``train.input_noise=0``).

    Args:
        folder: as `transformers.AutoModel.from_pretrained` takes it.
        finetune: train it; otherwise it is always in evaluation mode and gets no gradient.

    Raises:
        ConfigError: transformers is not installed, or the folder holds no model.
    """

    def __init__(self, folder: str, *, finetune: bool = False) -> None:
        super().__init__()
        if find_spec("transformers") is None:
            raise ConfigError(
                "bert: the package 'transformers' is missing; pip install 'fusionkit-torch[bert]'"
            )
        if not Path(folder).is_dir():
            raise ConfigError(f"bert: {folder!r} is no folder; give that of a local model")
        auto: Any = import_module("transformers").AutoModel
        try:
            self.model: Any = auto.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ConfigError(f"bert: no model can be read from {folder!r}: {error}") from error
        self.model.float()
        self.finetune = finetune
        self.output_size: int = self.model.config.hidden_size
        self.words_size: int = self.model.get_input_embeddings().weight.shape[1]
        self.train(self.training)

    def train(self, mode: bool = True) -> LocalBert:
        """As in torch; a model that is not trained stays in evaluation mode."""
        super().train(mode)
        self.model.train(mode and self.finetune)
        return self

    def ids(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Token ids (B, T) int64 from features (B, T, D), 0 on padding.

        Raises:
            DataError: a valid entry is no id of the vocabulary, or the sequence is too long.
        """
        most = getattr(self.model.config, "max_position_embeddings", None)
        if most is not None and x.shape[1] > most:
            raise DataError(f"bert: {x.shape[1]} tokens, the model takes at most {most}")
        column = x[..., 0].masked_fill(~within(lengths, x.shape[1]), 0.0)
        ids = column.long()
        if not torch.compiler.is_compiling():
            size = self.model.config.vocab_size
            if bool(((ids != column) | (ids < 0) | (ids >= size)).any()):
                raise DataError(
                    f"bert: column 0 must hold token ids, whole numbers from 0 to {size - 1}; "
                    "set data.normalise=false and train.input_noise=0"
                )
        return ids

    def words(self, x: Tensor, lengths: Tensor) -> Tensor:
        """What the model reads: its word vectors (B, T, words_size), without gradient."""
        found: Tensor = self.model.get_input_embeddings()(self.ids(x, lengths))
        return found.detach()

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) with ids in column 0 to (B, T, output_size)."""
        # A softmax over no token at all would be NaN, in the gradients too.
        mask = within(lengths.clamp(min=1), x.shape[1]).long()
        # Parameters keep requires_grad, because they are in the optimizer of the method.
        with torch.set_grad_enabled(self.finetune and torch.is_grad_enabled()):
            output = self.model(input_ids=self.ids(x, lengths), attention_mask=mask)
        hidden: Tensor = output.last_hidden_state
        return hidden
