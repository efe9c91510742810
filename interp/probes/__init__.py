"""Probes: fit a direction, measure it on groups it has not seen, and write down what was found."""

from interp.probes.card import Classes, ProbeCard
from interp.probes.evaluate import Measure, evaluate, grouped_folds, judge
from interp.probes.fit import METHODS, difference_of_means, logistic
from interp.probes.nulls import shuffled_labels

__all__ = [
    "METHODS",
    "Classes",
    "Measure",
    "ProbeCard",
    "difference_of_means",
    "evaluate",
    "grouped_folds",
    "judge",
    "logistic",
    "shuffled_labels",
]
