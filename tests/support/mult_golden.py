"""Golden files of MulT, and our modules for them: sizes and options come from each file."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from fusionkit import DataSpec, MultimodalBatch
from fusionkit.nn.crossmodal_transformer import MultiheadAttention, TransformerEncoder
from fusionkit.nn.positions import positions_for, sinusoidal_table
from fusionkit_plugins.mult.checkpoint import MODALITIES, official_to_ours
from fusionkit_plugins.mult.config import MulTConfig
from fusionkit_plugins.mult.lookahead import lookahead_mask
from fusionkit_plugins.mult.model import MulT

from golden import Arrays, Built, Golden

TARGET_FLAGS = {"text": "lonly", "audio": "aonly", "vision": "vonly"}
INPUTS = dict(zip(MODALITIES, ("x_l", "x_a", "x_v")))


class Positions(nn.Module):
    """The code of positions has no parameters; a module is what a golden file is compared with."""

    def forward(self, marks: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """(B, T) values of channel 0 to (B, T, size), and the table with a row of zeros first."""
        x = torch.ones(*marks.shape, size, dtype=marks.dtype)
        x[..., 0] = marks
        table = sinusoidal_table(marks.shape[1], size)
        return positions_for(x, "released"), nn.functional.pad(table, (0, 0, 1, 0))


class WithUnused(nn.Module):
    """A model of ours, and the parameters that only the official model has, none of them used."""

    def __init__(self, model: MulT, shapes: dict[str, torch.Size]) -> None:
        super().__init__()
        self.model = model
        unused = {n: torch.zeros(s) for n, s in shapes.items()}
        self.unused = nn.ParameterDict({n: nn.Parameter(x) for n, x in unused.items()})


def positions(golden: Golden) -> Built:
    size = golden.config["embedding_dim"]

    def run(module: nn.Module, x: Arrays) -> Arrays:
        return {"emb": module(x["x"], size)[0]}

    return Built(Positions(), run)


def attention(golden: Golden) -> Built:
    config = golden.config
    module = MultiheadAttention(config["embed_dim"], config["num_heads"])
    mask = golden.group("aux").get("attn_mask")

    def run(module: nn.Module, x: Arrays) -> Arrays:
        query, key, value = (x[name].transpose(0, 1) for name in ("query", "key", "value"))
        output, weights = module(query, key, value, bias=mask, return_weights=True)
        return {"attn": output.transpose(0, 1), "attn_weights": weights}

    return Built(module, run)


def encoder(golden: Golden) -> Built:
    config = golden.config
    module = TransformerEncoder(
        config["embed_dim"], config["num_heads"], config["layers"], positions="released"
    )

    def run(module: nn.Module, x: Arrays) -> Arrays:
        queries = x["x"].transpose(0, 1)
        source, values = (x[n].transpose(0, 1) if n in x else None for n in ("x_k", "x_v"))
        bias = None
        if config["attn_mask"]:
            steps = queries.shape[1]
            others = steps if source is None else source.shape[1]
            bias = lookahead_mask(torch.tensor([steps]), torch.tensor([others]), steps, others)
        return {"out": module(queries, source=source, values=values, bias=bias).transpose(0, 1)}

    return Built(
        module,
        run,
        lambda name: official_to_ours(f"trans_l_mem.{name}").removeprefix("memory.text."),
    )


def model_config(golden: Golden) -> MulTConfig:
    """Our options for a file of the whole model."""
    config = golden.config
    targets = [m for m, flag in TARGET_FLAGS.items() if config[flag]]
    return MulTConfig(
        width=config["d_model"],
        num_heads=config["num_heads"],
        num_layers=config["layers"],
        targets=targets if len(targets) < len(TARGET_FLAGS) else None,
        attention_dropout={
            "text": config["attn_dropout"],
            "audio": config["attn_dropout_a"],
            "vision": config["attn_dropout_v"],
        },
        memory_attention_dropout=config["attn_dropout"],
        relu_dropout=config["relu_dropout"],
        residual_dropout=config["res_dropout"],
        embed_dropout=config["embed_dropout"],
        input_dropout={"text": config["embed_dropout"]},
        output_dropout=config["out_dropout"],
        attn_mask=config["attn_mask"],
        lengths="padded",
        positions="released",
    )


def model_spec(golden: Golden) -> DataSpec:
    """Modalities and outputs of a file of the whole model."""
    sizes = {m: golden.config[f"orig_d_{letter}"] for m, letter in zip(MODALITIES, "lav")}
    return DataSpec(sizes, "regression", golden.config["output_dim"])


def model_batch(inputs: Arrays) -> MultimodalBatch:
    """The file's inputs; their lengths are those that `lengths="padded"` takes anyway."""
    features = {m: inputs[name] for m, name in INPUTS.items()}
    lengths = {m: torch.full((len(x),), x.shape[1]) for m, x in features.items()}
    return MultimodalBatch(features, lengths)


def whole_model(golden: Golden) -> Built:
    model = MulT(model_config(golden), model_spec(golden))
    known = {official_to_ours(name): name for name in golden.group("param")}
    ours = set(model.state_dict())
    unused = {name: key.replace(".", "/") for key, name in known.items() if key not in ours}
    shapes = {unused[n]: x.shape for n, x in golden.group("param").items() if n in unused}

    def name(official: str) -> str:
        if official in unused:
            return f"unused.{unused[official]}"
        return f"model.{official_to_ours(official)}"

    def run(module: nn.Module, x: Arrays) -> Arrays:
        model = cast(WithUnused, module).model
        summary = model.summary(model_batch(x))
        return {"output": model.head(summary), "last_hs": summary}

    return Built(WithUnused(model, shapes), run, name)


BUILDERS: dict[str, Callable[[Golden], Built]] = {
    "SinusoidalPositionalEmbedding": positions,
    "MultiheadAttention": attention,
    "TransformerEncoder": encoder,
    "MULTModel": whole_model,
}


def build(golden: Golden) -> Built:
    """Our module with the file's parameters."""
    built = BUILDERS[golden.meta["file"].split(" class ")[1]](golden)
    # The official buffers hold a format number and a device, no values.
    golden.arrays = {n: a for n, a in golden.arrays.items() if not n.startswith("buffer/")}
    return built.load(golden)
