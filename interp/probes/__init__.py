"""Probes: fit a direction, measure it on groups it has not seen, and write down what was found."""

from interp.probes.aggregate import Aggregation
from interp.probes.attention import AttentionFit, attention_probe
from interp.probes.card import Classes, ProbeCard, probe_folder
from interp.probes.descent import LogisticFits, held_out_scores, logistic_path
from interp.probes.erase import Eraser, leace
from interp.probes.estimators import DifferenceOfMeans, LogisticProbe, RidgeProbe, ShrunkenLDA
from interp.probes.evaluate import Labelled, Measure, ReadRows, Settings, Sweep, cross_chosen, evaluate, given, measures
from interp.probes.generalise import LeftOut, leave_conditions_out, transferred
from interp.probes.moments import Blocks, Moments, gather
from interp.probes.nulls import shuffled_labels
from interp.probes.paired import Paired, paired_moments, paired_pca
from interp.probes.splits import Fold, grouped_folds
from interp.probes.sweep import METHODS, FoldFits, SiteFits, fit_folds, fit_site

__all__ = [
    "Aggregation",
    "AttentionFit",
    "Blocks",
    "Classes",
    "DifferenceOfMeans",
    "Eraser",
    "Fold",
    "FoldFits",
    "Labelled",
    "LeftOut",
    "LogisticFits",
    "LogisticProbe",
    "METHODS",
    "Measure",
    "Moments",
    "Paired",
    "ProbeCard",
    "ReadRows",
    "RidgeProbe",
    "Settings",
    "ShrunkenLDA",
    "SiteFits",
    "Sweep",
    "attention_probe",
    "cross_chosen",
    "evaluate",
    "fit_folds",
    "fit_site",
    "gather",
    "given",
    "grouped_folds",
    "held_out_scores",
    "leace",
    "leave_conditions_out",
    "logistic_path",
    "measures",
    "paired_moments",
    "paired_pca",
    "probe_folder",
    "shuffled_labels",
    "transferred",
]
