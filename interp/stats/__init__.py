"""Every number with its interval and its null. Undefined is `None`, not 0; ungraded is counted, not "no"."""

from interp.stats.between import Change, between_changes, comparable
from interp.stats.contrasts import Contrast, contrast, paired_contrast
from interp.stats.dose import DoseTrend, dose_trend
from interp.stats.means import Mean, mean_of, paired_means
from interp.stats.paired import SignFlip, sign_flip
from interp.stats.ranks import ControlRank, FamilyWise, control_rank, holm, max_statistic
from interp.stats.rates import Interval, Rate, rate, rate_of
from interp.stats.resampling import auroc, auroc_difference_interval, auroc_interval, cluster_bootstrap

__all__ = [
    "Change",
    "Contrast",
    "ControlRank",
    "DoseTrend",
    "FamilyWise",
    "Interval",
    "Mean",
    "Rate",
    "SignFlip",
    "auroc",
    "auroc_difference_interval",
    "auroc_interval",
    "between_changes",
    "cluster_bootstrap",
    "comparable",
    "contrast",
    "control_rank",
    "dose_trend",
    "holm",
    "max_statistic",
    "mean_of",
    "paired_contrast",
    "paired_means",
    "rate",
    "rate_of",
    "sign_flip",
]
