"""The objectives: one file each, with its options, its value and its gradient."""

from rankloss.objectives._objective import RankingObjective
from rankloss.objectives.blockwise import Blockwise, Objective
from rankloss.objectives.fast_ap import FastAP
from rankloss.objectives.smooth_ap import SmoothAP
from rankloss.objectives.sup_con import SupCon

__all__ = ["Blockwise", "FastAP", "Objective", "RankingObjective", "SmoothAP", "SupCon"]
