"""A model that a function of the user's returns: `module:function`, called without arguments."""

import torch
from torch import nn

from ncscan import user_code
from ncscan.errors import ModelError
from ncscan.models.request import ModelRequest


def from_function(request: ModelRequest) -> nn.Module:
    """Return the function's module; ModelError where it is none, or one whose layers cannot be seen."""
    module = user_code.call(request.spec, request.base, ModelError)
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(
            f"{request.spec}: returned a TorchScript module, whose layers cannot be seen; return the nn.Module"
        )
    if not isinstance(module, nn.Module):
        raise ModelError(f"{request.spec}: returned a {type(module).__name__}, not an nn.Module")
    return module
