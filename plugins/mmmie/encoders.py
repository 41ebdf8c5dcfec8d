"""From the features of one modality to its tokens."""

from __future__ import annotations

from torch import Tensor, nn

from fusionkit.nn import ConvFrontend, Dropout, LengthAwareRNN, pool, pooled_size
from fusionkit.nn.crossmodal_transformer import TransformerEncoder
from fusionkit_plugins.mmmie.bert import LocalBert
from fusionkit_plugins.mmmie.config import MMMIEConfig


class ModalityEncoder(nn.Module):
    """Front end (BERT, convolution or none), sequence model, and a layer norm on the tokens.

    Args:
        size: features of the modality. config: kind and sizes.
        layers: of the sequence model. stride: of the convolution.
        bert: reads the modality as token ids.
    """

    def __init__(
        self,
        size: int,
        config: MMMIEConfig,
        *,
        layers: int,
        stride: int,
        bert: LocalBert | None = None,
    ) -> None:
        super().__init__()
        self.bert, self.frontend = bert, None
        self.input_size = pooled_size(size if bert is None else bert.words_size, "mean_max")
        if bert is not None:
            size = bert.output_size
        elif config.frontend_size:
            self.frontend = ConvFrontend(
                size, config.frontend_size, kernel_size=config.frontend_kernel, stride=stride
            )
            size = config.frontend_size
        hidden, dropout = config.hidden_size, config.encoder_dropout
        self.rnn = self.transformer = None
        if config.encoder == "transformer":
            self.projection = nn.Linear(size, hidden)
            self.transformer = TransformerEncoder(
                hidden,
                config.num_heads,
                layers,
                attention_dropout=dropout,
                residual_dropout=dropout,
                embed_dropout=dropout,
            )
        else:
            self.rnn = LengthAwareRNN(
                size,
                hidden,
                num_layers=layers,
                bidirectional=True,
                cell=config.encoder,
                dropout=dropout,
            )
            self.projection = nn.Linear(2 * hidden, hidden)
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(hidden)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D) and lengths (B,) to tokens (B, T', hidden_size) and their lengths."""
        if self.bert is not None:
            x = self.bert(x, lengths)
        if self.frontend is not None:
            x, lengths = self.frontend(x, lengths)
        if self.rnn is not None:
            x = self.projection(self.dropout(self.rnn(x, lengths)[0]))
        elif self.transformer is not None:
            x = self.transformer(self.projection(x), lengths)
        return self.norm(x), lengths

    def input_vector(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The input as a vector: mean and maximum over time of the features or word vectors."""
        source = x if self.bert is None else self.bert.words(x, lengths)
        return pool(source, lengths, "mean_max")
