"""The training loop, its options, checkpoints and run folders."""

from fusionkit.training.config import TrainConfig
from fusionkit.training.loop import fit
from fusionkit.training.run_folder import RunFolder

__all__ = ["RunFolder", "TrainConfig", "fit"]
