"""Run a model over data: one row of activations for each sample and layer."""

from ncscan.activations.batches import Batch, default_batch_size, on_device, pick_device, replay
from ncscan.activations.crosscheck import CrossCheck
from ncscan.activations.forward_rounding import arithmetic_floor
from ncscan.activations.repeatability import Repeated, require_repeatable, spread
from ncscan.activations.source import ActivationSource, GradientRow, Gradients, Layer, Provenance
from ncscan.activations.tracer import AUTO, REDUCTIONS, Trace, reduction_of, trace, watch, width
from ncscan.activations.tracing.record import copied, tensors_in

__all__ = [
    "AUTO",
    "REDUCTIONS",
    "ActivationSource",
    "Batch",
    "CrossCheck",
    "GradientRow",
    "Gradients",
    "Layer",
    "Provenance",
    "Repeated",
    "Trace",
    "arithmetic_floor",
    "copied",
    "default_batch_size",
    "on_device",
    "pick_device",
    "reduction_of",
    "replay",
    "require_repeatable",
    "spread",
    "tensors_in",
    "trace",
    "watch",
    "width",
]
