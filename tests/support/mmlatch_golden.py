"""Golden files of MMLatch, and our modules for them: sizes and options come from each file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fusionkit import DataSpec, MultimodalBatch
from fusionkit.nn import (
    AttentiveRNN,
    FeedbackMask,
    LengthAwareRNN,
    ProjectedAttention,
    SymmetricAttention,
    last_step,
    merge_directions,
)
from fusionkit_plugins.mmlatch.checkpoint import official_to_ours
from fusionkit_plugins.mmlatch.config import MMLatchConfig
from fusionkit_plugins.mmlatch.fuser import CrossModalFuser
from fusionkit_plugins.mmlatch.model import MMLatch

from golden import Arrays, Built, Golden

MODALITIES = ("text", "audio", "visual")
MASKS: dict[str, Any] = {"learnable_sequence_mask": "lstm", "learnable_static_mask": "linear"}


def built(
    module: nn.Module,
    run: Callable[[nn.Module, Arrays], Arrays],
    official: str = "",
    ours: str = "",
) -> Built:
    """``official`` lifts the file's names to the whole model; ``ours`` is taken off ours."""
    return Built(module, run, lambda name: official_to_ours(official + name).removeprefix(ours))


def key_bias(mask: Tensor) -> Tensor:
    """(B, L) of 1 keep, 0 pad, as a bias on the scores."""
    zero = torch.zeros((), dtype=mask.dtype)
    return torch.where(mask > 0, zero, -torch.inf)[:, None, None, :]


def attention(golden: Golden) -> Built:
    size = golden.config["attention_size"]

    def run(module: nn.Module, x: Arrays) -> Arrays:
        results = {
            "nomask": module(x["mod1"], x["mod2"]),
            "mask": module(x["mod1"], x["mod2"], bias=key_bias(x["mask"])),
            "otherlength": module(x["mod1"], x["mod2_other_length"]),
        }
        return {
            f"{case}/{k + 1}": out for case, pair in results.items() for k, out in enumerate(pair)
        }

    prefix = "fuser.attention.symmetric.text_with_audio."
    return built(SymmetricAttention(size), run, "encoder.fuser.att_fuser.ta.", prefix)


def attention_plain(golden: Golden) -> Built:
    c = golden.config

    def run(module: nn.Module, x: Arrays) -> Arrays:
        bias = key_bias(x["mask"])
        results = {
            "nomask": module(x["x"], x["queries"], return_weights=True),
            "mask": module(x["x"], x["queries"], bias=bias, return_weights=True),
            "values": module(x["x"], x["queries"], x["values"], bias=bias, return_weights=True),
        }
        return {
            f"{case}/{name}": value
            for case, result in results.items()
            for name, value in zip(("out", "weights"), result)
        }

    module = ProjectedAttention(c["input_size"], c["attention_size"], c["query_size"])
    return built(module, run, "encoder.fuser.att_fuser.tav.", "fuser.attention.trimodal.")


def unimodal_encoder(golden: Golden) -> Built:
    c = golden.config
    module = AttentiveRNN(
        c["input_size"],
        c["projection_size"],
        num_layers=c["layers"],
        bidirectional=c["bidirectional"],
        cell=c["encoder_type"],
    )

    def run(module: nn.Module, x: Arrays) -> Arrays:
        return {"out": module(x["x"], x["lengths"], keep_padded_queries=True)}

    return built(module, run, "encoder.text.", "encoders.text.")


def attentive_rnn(golden: Golden) -> Built:
    c = golden.config
    if not c["attention"]:
        return plain_rnn(golden, prefix="rnn.")
    module = AttentiveRNN(
        c["input_size"],
        c["hidden_size"],
        num_layers=c["layers"],
        bidirectional=c["bidirectional"],
        cell=c["rnn_type"],
        merge="concat" if c["merge_bi"] == "cat" else "sum",
    )

    def run(module: nn.Module, x: Arrays) -> Arrays:
        out = module(x["x"], x["lengths"], keep_padded_queries=True)
        return {"out": out if c["return_hidden"] else out.sum(dim=1)}

    return built(module, run, "encoder.fuser.rnn.", "fuser.rnn.")


def plain_rnn(golden: Golden, prefix: str = "") -> Built:
    c = golden.config
    both = c["bidirectional"]
    how: Any = "sum" if c["merge_bi"] == "sum" and both else "concat"
    rnn = LengthAwareRNN(
        c["input_size"],
        c["hidden_size"],
        num_layers=c["layers"],
        bidirectional=both,
        cell=c["rnn_type"],
    )
    module: nn.Module = nn.ModuleDict({"rnn": rnn}) if prefix else rnn

    def run(_: nn.Module, x: Arrays) -> Arrays:
        output, state = rnn(x["x"], x["lengths"], need_state=not prefix)
        last = last_step(output, x["lengths"], bidirectional=both, sort_lengths=True)
        last = merge_directions(last, how)
        if prefix:
            return {"out": last}
        h, c_n = state if c["rnn_type"] == "lstm" else (state, None)
        states = {"h": h} if c_n is None else {"h": h, "c": c_n}
        return {"out": merge_directions(output, how), "last": last, **states}

    if prefix:
        return built(module, run, "encoder.fuser.rnn.", "fuser.rnn.")
    return built(module, run, "encoder.fuser.rnn.rnn.", "fuser.rnn.rnn.")


def feedback(golden: Golden) -> Built:
    c = golden.config
    sizes = {"x": c["mod1_sz"], "y": c["mod2_sz"], "z": c["mod3_sz"]}
    module = nn.ModuleDict(
        {
            name: FeedbackMask(
                size, c["hidden_dim"], 2, kind=MASKS[c["mask_type"]], dropout=0, mask_dropout=0
            )
            for name, size in zip(MODALITIES, sizes.values())
        }
    )

    def run(module: Any, x: Arrays) -> Arrays:
        out = {}
        for name, key in zip(MODALITIES, sizes):
            sources = [x[f"hi_{other}"] for other in sizes if other != key]
            out[key] = module[name](x[f"low_{key}"], sources, x["lengths"], keep_padding=True)
            if key == "x":
                out["mask_x"] = module[name].mask(sources, x["lengths"])
        return out

    return built(module, run, "encoder.fm.", "feedback.")


def feedback_unit(golden: Golden) -> Built:
    c = golden.config
    module = FeedbackMask(
        c["mod1_sz"],
        c["hidden_dim"],
        2,
        kind=MASKS[c["mask_type"]],
        mask_dropout=0.2,
        mask_dropout_at_eval=True,
    )

    def run(module: nn.Module, x: Arrays) -> Arrays:
        return {"x_new": module(x["x"], [x["y"], x["z"]], x["lengths"], keep_padding=True)}

    return built(module.eval(), run, "encoder.fm.f1.", "feedback.text.")


def fuser(golden: Golden) -> Built:
    size = golden.config["proj_sz"]
    module = CrossModalFuser(MODALITIES, size, dropout=0, padding_takes_part=True)

    def run(module: nn.Module, x: Arrays) -> Arrays:
        streams = dict(zip(MODALITIES, (x["txt"], x["au"], x["vi"])))
        assert isinstance(module, CrossModalFuser)
        return {"concat": module.attention(streams), "out": module(streams, x["lengths"])}

    return built(module, run, "encoder.fuser.", "fuser.")


def whole_model(golden: Golden) -> Built:
    c = golden.config
    config = MMLatchConfig(
        hidden_size=c["projection_size"],
        encoder=c["encoder_type"],
        encoder_layers={m: c[f"{m}_layers"] for m in MODALITIES},
        bidirectional=c["bidirectional"],
        mask=MASKS[c["feedback_type"]] if c["feedback"] else None,
        encoder_dropout=0,
        mask_rnn_dropout=0,
        mask_dropout=0,
        fuser_dropout=0,
        lengths="true",
        padding_in_fuser=True,
    )
    sizes = {m: c[f"{m}_input_size"] for m in MODALITIES}
    spec = DataSpec(sizes, "regression", c["num_classes"], aligned=True)

    def run(module: nn.Module, x: Arrays) -> Arrays:
        features = {m: x[m] for m in MODALITIES}
        return {"pred": module(MultimodalBatch(features, dict.fromkeys(features, x["lengths"])))}

    return built(MMLatch(config, spec), run, "", "")


BUILDERS: dict[str, Callable[[Golden], Built]] = {
    "SymmetricAttention": attention,
    "Attention": attention_plain,
    "UnimodalEncoder": unimodal_encoder,
    "AttentiveRNN": attentive_rnn,
    "RNN": plain_rnn,
    "Feedback": feedback,
    "FeedbackUnit": feedback_unit,
    "AttRnnFuser": fuser,
    "AVTClassifier": whole_model,
}


def build(golden: Golden) -> Built:
    """Our module with the file's parameters."""
    return BUILDERS[golden.meta["class"].split(" ")[0]](golden).load(golden)
