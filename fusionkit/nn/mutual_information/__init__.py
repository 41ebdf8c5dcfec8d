"""Bounds on the mutual information I(x; y) of two vectors, from samples of pairs.

Lower bounds, to be made large: `InfoNCE`, `NWJ`, `MINE`, `JSD`, `BarberAgakov`. Upper bounds, to
be made small: `CLUB`, `CLUBSample`, `CLUBMean`, `CLUBForCategorical`, `L1Out`, `VarUB`. All values
are in nats. Each is a module with a network of its own: ``forward(x, y)`` is the bound,
``learning_loss(x, y)`` what its network is fitted by, ``frozen(x, y)`` the bound with a network
that gets no gradient. The upper bounds, `InfoNCE`, `NWJ` and `MINE` follow the released code of
CLUB (Cheng et al. 2020, "CLUB: A contrastive log-ratio upper bound of mutual information"); where
that code is not the bound that it is named after, ``released=True`` gives what it computes.
"""

from fusionkit.nn.mutual_information.barber_agakov import BarberAgakov
from fusionkit.nn.mutual_information.club import CLUB, CLUBForCategorical, CLUBMean, CLUBSample
from fusionkit.nn.mutual_information.conditional import GaussianConditional
from fusionkit.nn.mutual_information.contrastive import JSD, NWJ, InfoNCE
from fusionkit.nn.mutual_information.critic import ConcatCritic, SeparableCritic
from fusionkit.nn.mutual_information.estimator import Estimator
from fusionkit.nn.mutual_information.leave_one_out import L1Out
from fusionkit.nn.mutual_information.mine import MINE
from fusionkit.nn.mutual_information.variational import VarUB

__all__ = [
    "CLUB",
    "JSD",
    "MINE",
    "NWJ",
    "BarberAgakov",
    "CLUBForCategorical",
    "CLUBMean",
    "CLUBSample",
    "ConcatCritic",
    "Estimator",
    "GaussianConditional",
    "InfoNCE",
    "L1Out",
    "SeparableCritic",
    "VarUB",
]
