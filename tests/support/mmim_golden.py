"""Golden files of MMIM, and our modules for them: sizes and options come from each file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fusionkit import DataSpec, MultimodalBatch
from fusionkit_plugins.mmim.bounds import BarberAgakovTerms, ContrastivePrediction
from fusionkit_plugins.mmim.checkpoint import official_to_ours
from fusionkit_plugins.mmim.config import MMIMConfig
from fusionkit_plugins.mmim.encoders import LastState
from fusionkit_plugins.mmim.entropy import label_groups, mixture_entropy
from fusionkit_plugins.mmim.model import MMIM, FusionHead

from golden import Arrays, Built, Golden

RELEASED: dict[str, Any] = {
    "bounded_log_variance": False,
    "log_variance_term": False,
    "entropy": "released",
    "cpc_one_activation": True,
    "first_layer_state": True,
}
REGRESSION = DataSpec({"one": 1, "two": 1}, "regression", 1)
PAIRS = {"tv": "text_to_visual", "ta": "text_to_audio", "va": "visual_to_audio"}


def built(
    module: nn.Module,
    run: Callable[[Any, Arrays], Arrays],
    official: str = "",
    ours: str = "",
) -> Built:
    """``official`` lifts the file's names to the whole model; ``ours`` is taken off ours."""
    return Built(module, run, lambda name: official_to_ours(official + name).removeprefix(ours))


def bounds(golden: Golden) -> Built:
    c = golden.config
    config = MMIMConfig(bound_activation=c["mid_activation"].lower(), **RELEASED)

    def run(module: BarberAgakovTerms, x: Arrays) -> Arrays:
        outputs = {"lld": module.log_likelihood(x["x"], x["y"])}
        if "labels" in x:
            projected = module.project(x["y"])
            pos, neg = (projected[g] for g in label_groups(REGRESSION, x["labels"]))
            groups = [torch.cat([x["mem_pos"], pos]), torch.cat([x["mem_neg"], neg])]
            outputs |= {"pos": pos, "neg": neg, "H": mixture_entropy(groups, guarded=False)}
        return outputs

    module = BarberAgakovTerms(c["x_size"], c["y_size"], config)
    return built(module, run, "mi_tv.", "bounds.text_to_visual.")


def contrast(golden: Golden) -> Built:
    c = golden.config
    module = ContrastivePrediction(
        c["x_size"],
        c["y_size"],
        layers=c["n_layers"],
        activation=c["activation"].lower(),
        one_activation=True,
    )

    def run(module: ContrastivePrediction, x: Arrays) -> Arrays:
        return {"nce": module(x["x"], x["y"])}

    return built(module, run, "cpc_zt.", "contrast.text.")


def rnn_encoder(golden: Golden) -> Built:
    c = golden.config
    module = LastState(
        c["in_size"],
        c["hidden_size"],
        c["out_size"],
        num_layers=c["num_layers"],
        bidirectional=c["bidirectional"],
        first_layer=True,
    )

    def run(module: LastState, x: Arrays) -> Arrays:
        return {"out": module(x["x"].transpose(0, 1), x["lengths"])}

    result = built(module, run, "visual_enc.", "encoders.visual.")
    result.zero_gradients = [
        name
        for name in golden.group("param")
        if name.startswith("rnn.") and "_l0" not in name and c["bidirectional"]
    ]
    return result


def head(golden: Golden) -> Built:
    c = golden.config

    def run(module: FusionHead, x: Arrays) -> Arrays:
        fused, outputs = module(x["x"])
        return {"fusion": fused, "preds": outputs}

    module = FusionHead(c["in_size"], c["hidden_size"], c["n_class"])
    return built(module, run, "fusion_prj.", "head.")


def club(golden: Golden) -> Built:
    """The networks of the released code's own CLUB; no method here has its bound."""
    c, size = golden.config, golden.config["hidden_size"]
    config = MMIMConfig(
        bound_activation=c["activation"].lower(), bounded_log_variance=True, log_variance_term=False
    )

    def run(module: BarberAgakovTerms, x: Arrays) -> Arrays:
        likelihood = module.log_likelihood(x["a"], x["b"])
        mean, log_variance = module.conditional(x["a"])
        distance = (mean[:, None] - mean).square().mean(dim=1)
        negative = -(distance / (2 * log_variance.exp())).sum(dim=-1).mean()
        return {"lld": likelihood, "bound": likelihood - negative}

    module = BarberAgakovTerms(size, size, config)
    module.projection = nn.Identity()  # type: ignore[assignment]
    return built(module, run, "mi_tv.", "bounds.text_to_visual.")


def whole_model(golden: Golden) -> Built:
    c = golden.config
    assert c["n_layer"] == 1 or c["bidirectional"], "the official encoder breaks the shape"
    config = MMIMConfig(
        main_encoder="first",
        encoder_hidden={"text": 1, "audio": c["d_ah"], "visual": c["d_vh"]},
        encoder_size={"text": 1, "audio": c["d_aout"], "visual": c["d_vout"]},
        encoder_layers=c["n_layer"],
        bidirectional=c["bidirectional"],
        hidden_size=c["d_prjh"],
        dropout=0,
        alpha=c["alpha"],
        beta=c["beta"],
        all_pairs=c["add_va"],
        bound_activation=c["mmilb_mid_activation"].lower(),
        cpc_layers=c["cpc_layers"],
        cpc_activation=c["cpc_activation"].lower(),
        **RELEASED,
    )
    sizes = {"text": c["d_tin"], "audio": c["d_ain"], "visual": c["d_vin"]}
    model = MMIM(config, DataSpec(sizes, "regression", c["n_class"]))

    def run(model: MMIM, x: Arrays) -> Arrays:
        vectors = model.encode(batch(x))
        fused, outputs = model.fuse(vectors)
        rows = model.entropy_rows(vectors, label_groups(model.spec, x["target"]))
        results = {
            "lld": model.log_likelihood(vectors),
            "nce": model.contrastive_loss(vectors, fused),
            "preds": outputs,
        }
        total: Any = 0.0
        for letters, pair in PAIRS.items():
            if pair in rows:
                pos, neg = rows[pair]
                results |= {f"pos_{letters}": pos, f"neg_{letters}": neg}
                memory = (x[f"mem_{letters}_pos"], x[f"mem_{letters}_neg"])
                groups = [torch.cat([old, new]) for old, new in zip(memory, (pos, neg))]
                total = total + mixture_entropy(groups, guarded=False)
        return {**results, "H": total}

    return built(model, run)


def batch(x: Arrays) -> MultimodalBatch:
    """The official inputs as a batch of ours."""
    text = x["text"]
    features = {
        "text": text,
        "audio": x["acoustic"].transpose(0, 1),
        "visual": x["visual"].transpose(0, 1),
    }
    full = torch.full((len(text),), text.shape[1])
    lengths: dict[str, Tensor] = {"text": full, "audio": x["a_len"], "visual": x["v_len"]}
    return MultimodalBatch(features, lengths, x["target"])


BUILDERS: dict[str, Callable[[Golden], Built]] = {
    "class MMILB": bounds,
    "class CPC": contrast,
    "class RNNEncoder": rnn_encoder,
    "class SubNet": head,
    "class CLUB": club,
    "model.py class MMIM": whole_model,
}


def build(golden: Golden) -> Built:
    """Our module with the file's parameters."""
    found = [make for key, make in BUILDERS.items() if key in golden.meta["file"]]
    assert len(found) == 1, golden.meta["file"]
    return found[0](golden).load(golden)
