"""Building blocks of fusion methods, on top of `fusionkit.ops`."""

from fusionkit.nn.attention import ProjectedAttention, SymmetricAttention
from fusionkit.nn.convolution import ConvFrontend
from fusionkit.nn.crossmodal_transformer import (
    MultiheadAttention,
    Reading,
    TransformerEncoder,
    TransformerLayer,
    run_transformers,
)
from fusionkit.nn.dropout import Dropout
from fusionkit.nn.encoder import AttentionPooling, SequenceEncoder
from fusionkit.nn.feedback import FeedbackMask
from fusionkit.nn.gradient_reversal import gradient_reversal
from fusionkit.nn.layer_fusion import Exchange, LayerFusion
from fusionkit.nn.local_bert import import_transformers, load_local_bert, token_ids
from fusionkit.nn.low_rank_fusion import LowRankFusion
from fusionkit.nn.modality_options import check_modalities, per_modality
from fusionkit.nn.moment_discrepancy import central_moment_discrepancy
from fusionkit.nn.pooling import Pooling, pool, pooled_size
from fusionkit.nn.positions import Positions, positions_for, sinusoidal_table
from fusionkit.nn.recurrent import (
    AttentiveRNN,
    LengthAwareRNN,
    last_step,
    merge_directions,
    run_together,
)
from fusionkit.nn.resample import onto_one_axis, resample
from fusionkit.nn.split_attention import SplitAttention
from fusionkit.nn.squeeze_excitation import SqueezeExcitationFusion
from fusionkit.nn.staged_fusion import StagedFusion
from fusionkit.nn.top_down import TopDownFeedback

__all__ = [
    "AttentionPooling",
    "AttentiveRNN",
    "ConvFrontend",
    "Dropout",
    "Exchange",
    "FeedbackMask",
    "LayerFusion",
    "LengthAwareRNN",
    "LowRankFusion",
    "MultiheadAttention",
    "Pooling",
    "Positions",
    "ProjectedAttention",
    "Reading",
    "SequenceEncoder",
    "SplitAttention",
    "SqueezeExcitationFusion",
    "StagedFusion",
    "SymmetricAttention",
    "TopDownFeedback",
    "TransformerEncoder",
    "TransformerLayer",
    "central_moment_discrepancy",
    "check_modalities",
    "gradient_reversal",
    "import_transformers",
    "last_step",
    "load_local_bert",
    "merge_directions",
    "onto_one_axis",
    "per_modality",
    "pool",
    "pooled_size",
    "positions_for",
    "resample",
    "run_together",
    "run_transformers",
    "sinusoidal_table",
    "token_ids",
]
