"""Golden files of MSAF, and our modules for them: sizes and options come from each file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkit import DataSpec, MultimodalBatch
from fusionkit.nn.split_attention import BlockAttention, SplitAttention
from fusionkit_plugins.msaf.checkpoint import MODALITIES, convert, fusion_name, official_to_ours
from fusionkit_plugins.msaf.config import MSAFConfig
from fusionkit_plugins.msaf.model import MSAF

from golden import Arrays, Built, Golden, assert_close

# The golden files call the text features after the network that made them.
INPUTS = {"visual": "visual", "audio": "audio", "text": "bert"}


def zero_gradients(golden: Golden) -> frozenset[str]:
    """Biases before a BatchNorm in training."""
    if golden.meta.get("mode") == "eval":
        return frozenset()
    return frozenset(n for n in golden.group("param") if n.endswith("joint_features.0.bias"))


def module(golden: Golden) -> Built:
    """The MSAF module alone."""
    c = golden.config
    count = len(c["in_channels"])
    ours = SplitAttention(
        c["in_channels"],
        c["block_channel"],
        reduction=c["reduction_factor"],
        floor=c["lowest_atten"],
        block_dropout=c["block_dropout"],
        num_segments=c["split_block"],
    ).train(golden.meta["mode"] != "eval")

    def run(ours: nn.Module, x: Arrays) -> Arrays:
        return {f"x{k}": out for k, out in enumerate(ours([x[f"x{k}"] for k in range(count)]))}

    return Built(ours, run, fusion_name, zero_gradients(golden)).load(golden)


def network_config(golden: Golden) -> tuple[MSAFConfig, DataSpec]:
    """Options and data of the CMU-MOSEI network."""
    converted = convert(golden.group("param"))
    floor = golden.config["msaf"]["lowest_atten"]
    config = MSAFConfig(**{**converted.config, "attention_floor": floor, "block_dropout": 0})
    return config, DataSpec(converted.modalities, "regression", converted.num_outputs)


def network(golden: Golden) -> Built:
    """The CMU-MOSEI network."""

    def run(ours: nn.Module, x: Arrays) -> Arrays:
        features = {m: x[INPUTS[m]] for m in MODALITIES}
        return {"pred": ours(batch_of(features))}

    ours = MSAF(*network_config(golden))
    return Built(ours, run, official_to_ours, zero_gradients(golden)).load(golden)


def batch_of(features: Arrays) -> MultimodalBatch:
    """Samples of which every step is valid."""
    lengths = {m: torch.full((len(x),), x.shape[1]) for m, x in features.items()}
    return MultimodalBatch(features, lengths)


def build(golden: Golden) -> Built:
    """Our module with the file's parameters."""
    return network(golden) if "in/bert" in golden.arrays else module(golden)


def loss_of(built: Built) -> Callable[[nn.Module, Arrays], Tensor]:
    """What the files' optimizers minimise."""

    def loss(ours: nn.Module, x: Arrays) -> Tensor:
        outputs = built.run(ours, x).values()
        means = [out if out.dim() == 2 else out.flatten(2).mean(-1) for out in outputs]
        return F.mse_loss(torch.cat(means, dim=1), x["target"])

    return loss


@contextmanager
def attentions(ours: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Our name of a segment's block -> its softmax (blocks, B, C) in the next forward pass."""
    found: dict[str, Tensor] = {}
    handles = []
    for name, block in ours.named_modules():
        if isinstance(block, BlockAttention):

            def keep(_: Any, __: Any, output: Tensor, name: str = name) -> None:
                found[name] = output.transpose(0, 1)

            handles.append(block.register_forward_hook(keep))
    yield found
    for handle in handles:
        handle.remove()


def segment_name(built: Built, official: str) -> str:
    """Our name of a segment's block, for example ``msaf.0.blocks.3``."""
    return built.name(f"{official}.joint_features.0.bias").removesuffix(".squeeze.bias")


def check_subsampled(
    golden: Golden, prefix: str, arrays: Mapping[str, Tensor], relative: float, floor: float = 0.0
) -> int:
    """Compare what the file stores as every n-th element, norm and sum; how many there are."""
    stored = golden.group(f"sub/{prefix}")
    norms = golden.group(f"norm/{prefix}")
    for name, want in stored.items():
        stride = golden.meta["subsampled"]["stride"][f"{prefix}/{name}"]
        got = arrays[name].detach().flatten()
        assert_close(f"sub/{prefix}/{name}", got[::stride], want, relative, floor)
        norm, total = norms[name]
        assert_close(f"norm/{prefix}/{name}", got.double().norm(), norm.double(), relative)
        # A sum has the rounding of all its terms.
        allowed = relative * norm.item() * len(got) ** 0.5
        assert_close(f"sum/{prefix}/{name}", got.double().sum(), total.double(), 0.0, allowed)
    return len(stored)
