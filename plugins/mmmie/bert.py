"""A local Hugging Face model as the front end of a modality of token ids."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fusionkit.nn import load_local_bert, token_ids
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
        self.model: Any = load_local_bert(folder)
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
        config = self.model.config
        most = getattr(config, "max_position_embeddings", None)
        return token_ids(x, lengths, vocabulary=config.vocab_size, max_tokens=most)

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
