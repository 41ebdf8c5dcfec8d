"""A tiny random BERT in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 token ids, 12 positions, 64 features, 2 layers of one head."""
    transformers = pytest.importorskip("transformers", reason="package transformers is missing")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=64, num_hidden_layers=2, num_attention_heads=1,
        intermediate_size=24, max_position_embeddings=12, initializer_range=0.2,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("bert")
    transformers.BertModel(config).save_pretrained(path)
    return path
