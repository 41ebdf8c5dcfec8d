"""MAG-BERT: the gate between the embedding layer and the encoder of a BERT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fusionkit import ConfigError, DataSpec, MultimodalBatch
from fusionkit.nn import Dropout, import_transformers, load_local_bert, token_ids
from fusionkit.ops.lengths import within
from fusionkit_plugins.mag.config import BertSizes, MAGConfig
from fusionkit_plugins.mag.gate import MultimodalAdaptationGate
from fusionkit_plugins.mag.main_axis import main_modality, on_main_steps


class GatedBert(nn.Module):
    """A BERT that reads the main modality's token ids, shifted by any number of others.

    The ids stand in column 0, special tokens among them; the first token's vector is pooled. The
    data must be neither normalised nor noisy (``data.normalise=false``, ``train.input_noise=0``).

    Args:
        config: ``bert`` or ``bert_sizes``, and the options of the gate. spec: modalities, task and
            outputs.

    Raises:
        ConfigError: the data have no such main modality, transformers is not installed, or the
            folder holds no BERT.
    """

    def __init__(self, config: MAGConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.main = config, main_modality(config.main, spec)
        self.aligned, self.finetune = spec.aligned, config.bert_finetune
        # `MAGConfig` has one of the two where there is a BERT at all.
        self.bert: Any = (
            _load(config.bert) if config.bert_sizes is None else _untrained(config.bert_sizes)
        )
        self.bert.requires_grad_(self.finetune)
        size = self.bert.config.hidden_size
        self.gate = MultimodalAdaptationGate(
            size,
            {name: n for name, n in spec.modalities.items() if name != self.main},
            beta=config.beta,
            dropout=config.gate_dropout,
        )
        self.dropout = Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(size, spec.num_outputs)
        # As transformers starts layers that the folder does not have.
        for module in (*self.gate.modules(), self.classifier):
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=self.bert.config.initializer_range)
                nn.init.zeros_(module.bias)
        self.train(self.training)

    def train(self, mode: bool = True) -> GatedBert:
        """As in torch; a BERT that is not trained stays in evaluation mode."""
        super().train(mode)
        self.bert.train(mode and self.finetune)
        return self

    def check_sample(self, features: Mapping[str, Tensor]) -> None:
        """Raise DataError unless the main modality (T, D) of a sample holds token ids."""
        x = features[self.main]
        self._ids(x[None], torch.tensor([len(x)]))

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Outputs (B, num_outputs): logits, or values of a regression.

        Raises:
            DataError: the main modality holds no token ids, or too many.
        """
        x, others = on_main_steps(self.main, batch.features, batch.lengths, aligned=self.aligned)
        lengths = batch.lengths[self.main]
        ids = self._ids(x, lengths)
        hidden = self.gate(self.bert.embeddings(input_ids=ids), others)
        # A sample without tokens has its first step: all of its padding would depend on its batch.
        padding = ~within(lengths.clamp(min=1), ids.shape[1])
        mask = torch.zeros_like(padding, dtype=hidden.dtype).masked_fill(
            padding, torch.finfo(hidden.dtype).min
        )
        encoded = self.bert.encoder(hidden, attention_mask=mask[:, None, None])
        pooled = self.bert.pooler(encoded.last_hidden_state)
        output: Tensor = self.classifier(self.dropout(pooled))
        return output

    def _ids(self, x: Tensor, lengths: Tensor) -> Tensor:
        sizes = self.bert.config
        return token_ids(
            x, lengths, vocabulary=sizes.vocab_size, max_tokens=sizes.max_position_embeddings
        )


def _load(folder: str) -> Any:
    model = load_local_bert(folder)
    if model.config.model_type != "bert":
        raise ConfigError(
            f"bert: {folder!r} holds a model of the kind {model.config.model_type!r}; the gate "
            "goes into one of the kind 'bert'"
        )
    return model


def _untrained(sizes: BertSizes) -> Any:
    transformers = import_transformers()
    return transformers.BertModel(
        transformers.BertConfig(
            vocab_size=sizes.vocabulary,
            hidden_size=sizes.hidden_size,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            intermediate_size=sizes.intermediate_size,
            max_position_embeddings=sizes.max_tokens,
            type_vocab_size=sizes.token_types,
        )
    )
