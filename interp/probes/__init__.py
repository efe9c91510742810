"""Probes: fit a direction, measure it on groups it has not seen, and write down what was found."""

from interp.probes.act import SituationOrAct, prefix_pairs, within_prompt
from interp.probes.aggregate import Aggregation
from interp.probes.attention import AttentionFit, attention_probe
from interp.probes.baselines import Baseline
from interp.probes.card import Classes, ProbeCard, probe_folder
from interp.probes.chosen import Chosen, cross_chosen
from interp.probes.control_task import ControlTask
from interp.probes.descent import LogisticFits, held_out_scores, logistic_path
from interp.probes.erase import Eraser, leace
from interp.probes.estimators import DifferenceOfMeans, LogisticProbe, RidgeProbe, ShrunkenLDA
from interp.probes.evaluate import Candidate, Measure, Sweep, chance, evaluate, given, measures
from interp.probes.evidence import Evidence
from interp.probes.generalise import LeftOut, leave_conditions_out, transferred
from interp.probes.labelled import Labelled, ReadRows, Settings
from interp.probes.moments import Blocks, Moments, gather
from interp.probes.neighbours import Neighbours, valence_direction, without
from interp.probes.nulls import shuffled_labels
from interp.probes.operating import Operating
from interp.probes.paired import Paired, paired_moments, paired_pca
from interp.probes.power import Power, planted_power
from interp.probes.random_directions import RandomDirections
from interp.probes.splits import Fold, grouped_folds
from interp.probes.sweep import METHODS, FoldFits, SiteFits, fit_folds, fit_site
from interp.probes.text_judge import TextJudge

__all__ = [
    "Aggregation",
    "AttentionFit",
    "Baseline",
    "Blocks",
    "Candidate",
    "Chosen",
    "Classes",
    "ControlTask",
    "DifferenceOfMeans",
    "Eraser",
    "Evidence",
    "Fold",
    "FoldFits",
    "Labelled",
    "LeftOut",
    "LogisticFits",
    "LogisticProbe",
    "METHODS",
    "Measure",
    "Moments",
    "Neighbours",
    "Operating",
    "Paired",
    "Power",
    "ProbeCard",
    "RandomDirections",
    "ReadRows",
    "RidgeProbe",
    "Settings",
    "ShrunkenLDA",
    "SiteFits",
    "SituationOrAct",
    "Sweep",
    "TextJudge",
    "attention_probe",
    "chance",
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
    "planted_power",
    "prefix_pairs",
    "probe_folder",
    "shuffled_labels",
    "transferred",
    "valence_direction",
    "within_prompt",
    "without",
]
