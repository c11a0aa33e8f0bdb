"""Know weights that are stored as small numbers and scales: they are other numbers than the model computes with.

In: the tensors of a checkpoint. Out: a refusal where scales lie beside them. A float8 weight alone is its own value.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import torch

from ncscan.errors import ModelError

FLOAT8 = (
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz),
    torch.float8_e8m0fnu,
)
SMALL = (torch.int8, torch.uint8, torch.int16, torch.int32, *FLOAT8)
"""Types in which quantised weights are stored, packed or not."""
KINDS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset(("qweight", "qzeros", "scales", "g_idx")), "by GPTQ"),
    (frozenset(("qweight", "qzeros", "scales")), "by AWQ or GPTQ"),
    (frozenset(("weight", "SCB")), "to 8 bits by bitsandbytes"),
    (frozenset(("weight", "weight.absmax")), "to 4 bits by bitsandbytes"),
    (frozenset(("weight", "weight_scale_inv")), "to float8 with a scale for each block"),
    (frozenset(("weight_packed", "weight_scale")), "by compressed-tensors"),
    (frozenset(("weight", "weight_scale")), "with a scale"),
    (frozenset(("weight", "scale_weight")), "with a scale"),
    (frozenset(("W_q", "scale")), "by HQQ"),
)
"""Names of the tensors of one layer that is quantised, and in which way."""


def refuse_quantised(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Raise ModelError where a layer's weights are stored as small numbers with scales beside them."""
    layers: dict[str, set[str]] = defaultdict(set)
    for name in tensors:
        head, _, leaf = name.rpartition(".")
        layers[head].add(leaf)
        above, _, last = head.rpartition(".")
        if last == "weight":  # what bitsandbytes keeps of a weight lies below its name
            layers[above].add(f"weight.{leaf}")
    for layer, leaves in layers.items():
        front = f"{layer}." if layer else ""
        small = [leaf for leaf in leaves if front + leaf in tensors and tensors[front + leaf].dtype in SMALL]
        for names, way in KINDS:
            if names <= leaves and (stored := next((leaf for leaf in sorted(names) if leaf in small), "")):
                _refuse(front + stored, tensors[front + stored], way, sorted(names - {stored}), path)
        for leaf in small:
            scales = sorted(each for each in leaves if "scale" in each and each != leaf)
            if scales and tensors[front + leaf].dtype in FLOAT8:
                _refuse(front + leaf, tensors[front + leaf], "with a scale", scales, path)


def _refuse(name: str, tensor: torch.Tensor, way: str, beside: list[str], path: Path) -> None:
    kind = str(tensor.dtype).removeprefix("torch.")
    raise ModelError(
        f"{path}: {name:.100} is {kind}, quantised {way} ({', '.join(beside)} beside it): the model computes with "
        "other numbers; have the weights dequantised and saved as bfloat16 or float32 by whoever made the file "
        "(transformers: model.dequantize()), or take the checkpoint that it was made of"
    )
