"""Golden files of MISA, and our modules for them: sizes and options come from each file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fusionkit import DataSpec, MultimodalBatch
from fusionkit.nn.gradient_reversal import gradient_reversal
from fusionkit.nn.moment_discrepancy import central_moment_discrepancy
from fusionkit_plugins.misa.checkpoint import MODALITIES, official_to_ours
from fusionkit_plugins.misa.config import MISAConfig
from fusionkit_plugins.misa.losses import difference_loss, mean_squared_error, squared_mean_error
from fusionkit_plugins.misa.model import MISA, Representations

from golden import Arrays, Built, Golden

_LETTERS = {"t": "text", "v": "visual", "a": "audio"}


class Official(nn.Module):
    """Our model, and what the official one has beside it: word embeddings and unused parts."""

    def __init__(self, model: MISA, golden: Golden) -> None:
        super().__init__()
        self.model = model
        self.rest = nn.ParameterDict()
        for name, value in golden.group("param").items():
            if rest_name(name, self.model) is not None:
                self.rest[name.replace(".", "/")] = torch.empty_like(value)

    def represent(self, inputs: Arrays) -> Representations:
        """The official forward pass as far as the three kinds of vectors."""
        if "utt_v" in inputs:
            text: Any = self.model.encoders["text"]
            utterances = {
                "text": text(inputs["text_seq"], inputs["text_mask"].sum(dim=1)),
                "visual": inputs["utt_v"],
                "audio": inputs["utt_a"],
            }
        else:
            utterances = self.model.utterances(self.batch(inputs))
        return self.model.represent(utterances)

    def batch(self, inputs: Arrays) -> MultimodalBatch:
        """The official inputs as a batch of ours, words embedded."""
        words = nn.functional.embedding(inputs["sentences"], self.rest["embed/weight"])
        features = {"text": words, "visual": inputs["video"], "audio": inputs["acoustic"]}
        return MultimodalBatch(
            {m: x.transpose(0, 1) for m, x in features.items()},
            dict.fromkeys(features, inputs["lengths"]),
            inputs.get("target"),
        )


def rest_name(name: str, model: MISA) -> str | None:
    """Where a parameter of the official model that ours does not have is kept."""
    if name.startswith(("embed.", "sp_discriminator.")):
        return "rest." + name.replace(".", "/")
    ours = official_to_ours(name)
    return None if ours in dict(model.named_parameters()) else "rest." + name.replace(".", "/")


def config_of(golden: Golden) -> MISAConfig:
    """The options of a whole model."""
    c = golden.config
    return MISAConfig(
        hidden_size=c["hidden_size"],
        encoder={"text": "mean" if c["use_bert"] else "paper"},
        cell=c["rnncell"],
        activation=c["activation"],
        heads=c["nhead"],
        transformer_layers=c["num_layers_transformer"],
        feedforward_size=c["dim_feedforward"],
        transformer_dropout=0,
        dropout=0,
        difference_weight=c["diff_weight"],
        similarity="cmd" if c["use_cmd_sim"] else "adversarial",
        similarity_weight=c["sim_weight"],
        reversal_scale=c["reverse_grad_weight"],
        reconstruction_weight=c["recon_weight"],
        cmd_gradient_at_equality="nan",
    )


def build(golden: Golden) -> Built:
    """The whole model with the file's parameters."""
    c, sizes = golden.config, {}
    text = golden.group("in")["text_seq"].shape[-1] if c["use_bert"] else c["embedding_size"]
    sizes = dict(zip(MODALITIES, (text, c["visual_size"], c["acoustic_size"])))
    model = MISA(config_of(golden), DataSpec(sizes, "regression", c["num_classes"], aligned=True))

    def run(module: nn.Module, inputs: Arrays) -> Arrays:
        assert isinstance(module, Official)
        parts = module.represent(inputs)
        outputs = {"output": model.predict(parts)}
        rebuilt = model.reconstruct(parts)
        domains = None if model.discriminator is None else model.domains(parts)
        for letter, name in _LETTERS.items():
            outputs[f"utt_private_{letter}"] = parts.private[name]
            outputs[f"utt_shared_{letter}"] = parts.shared[name]
            outputs[f"utt_{letter}_orig"] = parts.projected[name]
            outputs[f"utt_{letter}_recon"] = rebuilt[name]
            if domains is not None:
                outputs[f"domain_label_{letter}"] = domains[name]
        return outputs

    def name(official: str) -> str:
        return rest_name(official, model) or f"model.{official_to_ours(official)}"

    return Built(Official(model, golden), run, name).load(golden)


@dataclass(frozen=True)
class Function:
    """A function without parameters: (inputs of the file) -> outputs of the file."""

    run: Callable[[Arrays], dict[str, Tensor]]


def function(golden: Golden) -> Function:
    """The losses alone, or the gradient reversal alone."""
    c = golden.config
    if "n_moments" not in c:
        return Function(lambda x: {"y": gradient_reversal(x["x"], c["p"])})
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "cmd": lambda a, b: central_moment_discrepancy(a, b, moments=c["n_moments"]),
        "diff": difference_loss,
        "mse": mean_squared_error,
        "simse": squared_mean_error,
    }
    return Function(
        lambda x: {name: loss(x[f"{name}_1"], x[f"{name}_2"]) for name, loss in losses.items()}
    )
