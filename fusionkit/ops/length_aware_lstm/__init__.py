"""LSTM and GRU over padded batches that treat each sequence by its own length.

Long short-term memory (Hochreiter and Schmidhuber 1997) and gated recurrent units (Cho et al.
2014), in the form and with the weight layout of `torch.nn.LSTM` and `torch.nn.GRU`. The result is
that of a packed batch: the reverse direction starts at the last valid step, and what the padding
holds never matters (NaN neither).
"""

from fusionkit.ops.length_aware_lstm.group import length_aware_lstm_group
from fusionkit.ops.length_aware_lstm.single import length_aware_lstm

__all__ = ["length_aware_lstm", "length_aware_lstm_group"]
