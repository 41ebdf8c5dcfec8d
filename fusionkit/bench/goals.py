"""What ours should reach, as data.

A goal is a ratio of times, contender over ours, and holds at every number of threads. Ratios of a
class are averaged geometrically.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fusionkit.bench.case import BOTH, FORWARD, FULL, PARTIAL

SHORT_NARROW, LONG_NARROW = "D<=10 T<=50", "D<=10 T>=375"
SHORT_WIDE, LONG_WIDE = "D16-64 T<=50", "D>=16 T>=375"
ATTENTION_CLASSES = (SHORT_NARROW, LONG_NARROW, SHORT_WIDE, LONG_WIDE)
ATTENTION_DROPOUT, MASK_DROPOUT = "dropout 0.1", "dropout 0.2"
FEW_FEATURES, MANY_FEATURES = "35 and 74 features", "300 features"
BILSTM = "BiLSTM H100"
MULT_LAYER = "MulT layer 50x500"
PACKED, PADDED = "plain, packed", "plain, padded"
EAGER, PACKED_LSTM = "eager", "packed nn.LSTM"

Rule = Literal["mean", "each", "over full"]


@dataclass(frozen=True)
class Goal:
    """One line of the table of goals.

    Args:
        op, group, variant, phase: the class it is for.
        at_least: smallest ratio. against: contender, or ``best`` for the fastest one.
        rule: ``mean`` of the class, ``each`` case, or ``over full``: the mean is at least that many
            times the mean at full lengths.
    """

    op: str
    group: str
    variant: str
    phase: str
    at_least: float
    against: str = "best"
    rule: Rule = "mean"

    def in_words(self) -> str:
        """Such as ``mean >= 2``."""
        return {
            "mean": f"mean >= {self.at_least:g}",
            "each": f"each >= {self.at_least:g}",
            "over full": f"mean >= {self.at_least:g} x full",
        }[self.rule]


def _both(
    op: str,
    group: str,
    variant: str,
    forward: float,
    both: float,
    against: str = "best",
    rule: Rule = "mean",
) -> list[Goal]:
    return [
        Goal(op, group, variant, FORWARD, forward, against, rule),
        Goal(op, group, variant, BOTH, both, against, rule),
    ]


GOALS: tuple[Goal, ...] = (
    *_both("cross_attention", SHORT_NARROW, FULL, 5.0, 3.5),
    *_both("cross_attention", LONG_NARROW, FULL, 3.5, 2.5),
    *_both("cross_attention", LONG_NARROW, ATTENTION_DROPOUT, 6.0, 5.0),
    *_both("cross_attention", SHORT_WIDE, FULL, 2.0, 1.4),
    *_both("cross_attention", LONG_WIDE, FULL, 1.0, 1.0, rule="each"),
    *(
        goal
        for group in ATTENTION_CLASSES
        for goal in _both("cross_attention", group, PARTIAL, 1.25, 1.25, rule="over full")
    ),
    *(
        goal
        for variant in (FULL, MASK_DROPOUT)
        for group, ratio in ((FEW_FEATURES, 2.0), (MANY_FEATURES, 3.0))
        for goal in _both("gated_mask", group, variant, ratio, ratio, against=EAGER)
    ),
    *(
        Goal("length_aware_lstm", BILSTM, variant, BOTH, 3.0, against=PACKED_LSTM)
        for variant in (FULL, PARTIAL)
    ),
    Goal("mult_layer", MULT_LAYER, ATTENTION_DROPOUT, BOTH, 3.0),
    Goal("model", "mmlatch", PARTIAL, "step", 2.5, against=PACKED),
    Goal("model", "mmlatch", FULL, "step", 2.0, against=PADDED),
    Goal("model", "mmlatch", PARTIAL, "step", 3.0, against=PADDED),
)
