"""What s2r2 and simclr optimise, as the core's objectives, which every framework's losses take."""

import rankloss
from pretraining.options import Options
from rankloss.objectives import Objective


def objective(options: Options, temperature: float | None = None) -> Objective:
    """The ranking objective of s2r2 and simclr, with the options' temperature or another."""
    temperature = temperature or options.loss_temperature
    if options.method == "simclr":
        return rankloss.SupCon(temperature=temperature)
    plain = {
        "smooth_ap": lambda: rankloss.SmoothAP(temperature=temperature),
        "fast_ap": lambda: rankloss.FastAP(num_bins=options.num_bins),
        "sup_con": lambda: rankloss.SupCon(temperature=temperature),
    }[options.objective]()
    return plain if options.blocks == 1 else rankloss.Blockwise(plain, options.blocks)
