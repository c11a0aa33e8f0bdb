"""Turn sums into the numbers of the field."""

from ncscan.metrics.class_mean_coordinates import PicturedVector, pictured, places
from ncscan.metrics.evaluate import Key, Row, key_of, measure, network_rows, rows_of
from ncscan.metrics.gradient_table import GRADIENT_DEFINITIONS
from ncscan.metrics.head_readers import Weights, head_classifiers, of_members, readers
from ncscan.metrics.held_out import (
    HELD_OUT,
    MEANS_OF_TRAINING,
    QUANTILES,
    confidence_rows,
    confidences,
    distance_rows,
    held_out_rows,
    outside_rows,
    placed,
    undefined_rows,
)
from ncscan.metrics.layers.class_means import cross_etf_distance, equiangular, equinorm, etf_distance, product_distance
from ncscan.metrics.layers.nearest_class_center import answers, logit_blocks, logits_obstacle, most_at_once
from ncscan.metrics.layers.per_class import CLASS_METRICS, ClassRow, class_rows
from ncscan.metrics.layers.table import CLASSIFIER, FEATURES, METRICS, NETWORK, SIZES
from ncscan.metrics.view import Classifier, Definition, LayerView, Reader, bare
from ncscan.metrics.weights.evaluate import WeightRow, measure_weights
from ncscan.metrics.weights.table import WEIGHT_METRICS

__all__ = [
    "CLASSIFIER",
    "CLASS_METRICS",
    "FEATURES",
    "GRADIENT_DEFINITIONS",
    "HELD_OUT",
    "MEANS_OF_TRAINING",
    "METRICS",
    "NETWORK",
    "QUANTILES",
    "SIZES",
    "WEIGHT_METRICS",
    "ClassRow",
    "Classifier",
    "Definition",
    "Key",
    "LayerView",
    "PicturedVector",
    "Reader",
    "Row",
    "WeightRow",
    "Weights",
    "answers",
    "bare",
    "class_rows",
    "confidence_rows",
    "confidences",
    "cross_etf_distance",
    "distance_rows",
    "equiangular",
    "equinorm",
    "etf_distance",
    "head_classifiers",
    "held_out_rows",
    "key_of",
    "logit_blocks",
    "logits_obstacle",
    "measure",
    "measure_weights",
    "most_at_once",
    "network_rows",
    "of_members",
    "outside_rows",
    "pictured",
    "placed",
    "places",
    "product_distance",
    "readers",
    "rows_of",
    "undefined_rows",
]
