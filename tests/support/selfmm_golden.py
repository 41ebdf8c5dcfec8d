"""Golden files of Self-MM, and our network and label memory for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit import DataSpec, MultimodalBatch
from fusionkit_plugins.self_mm.checkpoint import official_to_ours
from fusionkit_plugins.self_mm.config import SelfMMConfig
from fusionkit_plugins.self_mm.labels import FUSION, UnimodalLabels
from fusionkit_plugins.self_mm.model import SelfMM
from fusionkit_plugins.self_mm.objective import losses

from golden import Arrays, Built, Golden

MODES = {FUSION: "M", "text": "T", "audio": "A", "vision": "V"}
FILES = {FUSION: "fusion", "text": "text", "audio": "audio", "vision": "vision"}


def batch(golden: Golden, inputs: Arrays) -> MultimodalBatch:
    """Padded lengths of aligned data are the sums of the text mask, for text always."""
    mask = inputs["text_mask"].sum(dim=1)
    features = {"text": inputs["text_feat"], "audio": inputs["audio"], "vision": inputs["video"]}
    if golden.config["need_data_aligned"]:
        return MultimodalBatch(features, dict.fromkeys(features, mask))
    lengths = {"audio": inputs["audio_lengths"], "vision": inputs["video_lengths"]}
    return MultimodalBatch(features, {"text": mask, **lengths})


def sizes(golden: Golden) -> dict[str, int]:
    c = golden.config
    return {"text": c["text_out"], "audio": c["a_in"], "vision": c["v_in"]}


def config(golden: Golden) -> SelfMMConfig:
    c = golden.config
    heads = {m: c[f"post_{n}_dim"] for m, n in zip(FILES, ("fusion", "text", "audio", "video"))}
    return SelfMMConfig(
        main="text",
        main_vector="first",
        recurrent_size={"audio": c["a_lstm_hidden_size"], "vision": c["v_lstm_hidden_size"]},
        vector_size={"audio": c["audio_out"], "vision": c["video_out"]},
        encoder_dropout=0,
        head_dropout=0,
        fusion_size=heads.pop(FUSION),
        head_size=heads,
    )


def build(golden: Golden) -> Built:
    """Our network with the file's parameters."""
    spec = DataSpec(sizes(golden), "regression", 1, golden.config["need_data_aligned"])
    module = SelfMM(config(golden), spec).train(golden.meta["mode"] == "train")

    def run(module: nn.Module, inputs: Arrays) -> Arrays:
        assert isinstance(module, SelfMM)
        predictions, features = module.heads_of(batch(golden, inputs))
        found = {MODES[name]: prediction for name, prediction in predictions.items()}
        named = zip("ftav", (features[name] for name in MODES))
        return {**found, **{f"Feature_{letter}": x for letter, x in named}}

    return Built(module, run, official_to_ours).load(golden)


def own_losses(predictions: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> Arrays:
    """The four losses as M, T, A, V, from predictions and labels by these letters."""
    found = losses(
        {name: predictions[mode] for name, mode in MODES.items()},
        {name: labels[mode].reshape(predictions[mode].shape) for name, mode in MODES.items()},
        F.l1_loss,
    )
    return {mode: found[name] for name, mode in MODES.items()}


def total_loss(golden: Golden, built: Built) -> Any:
    def loss(module: nn.Module, inputs: Arrays) -> Tensor:
        labels = {mode: inputs[f"label_{mode}"] for mode in MODES.values()}
        values = own_losses(built.run(module, inputs), labels)
        return torch.stack(list(values.values())).sum()

    return loss


def optimizer(golden: Golden, built: Built) -> torch.optim.Optimizer:
    """Adam with the file's groups: parameters by the start of their official names, and others."""
    options = golden.meta["optimizer"]
    assert options["name"] == "Adam" and options["clipping"] is None
    ours = dict(built.module.named_parameters())
    by_group: dict[str, list[Tensor]] = {name: [] for name in options["groups"]}
    for name in golden.group("param"):
        group = next((g for g in by_group if name.startswith(g + ".")), "other")
        by_group[group].append(ours[built.name(name)])
    return torch.optim.Adam(
        [{"params": by_group[name], **values} for name, values in options["groups"].items()],
        betas=options["betas"],
        eps=options["eps"],
    )


def memory(golden: Golden) -> UnimodalLabels:
    """The released label memory, started with the file's samples."""
    c = golden.config
    labels = UnimodalLabels(
        {name: c["dims"][file] for name, file in FILES.items()},
        limit=c["H"],
        exclude_neutral=c["excludeZero"],
        released=True,
    )
    targets = golden.group("in")["labels_m"]
    labels.start([str(k) for k in range(len(targets))], targets)
    return labels
