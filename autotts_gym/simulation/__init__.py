"""Simulation of a fleet of model servers over recorded traces (``autotts simulate``)."""

from autotts_gym.simulation.server_curve import RequestCost, ServerCurve
from autotts_gym.simulation.simulation_plan import Fleet, SimulationPlan
from autotts_gym.simulation.simulation_points import SimulationPoint
from autotts_gym.simulation.simulation_result import SimulationResult
from autotts_gym.simulation.simulation_run import run_simulation

__all__ = [
    "Fleet",
    "RequestCost",
    "ServerCurve",
    "SimulationPlan",
    "SimulationPoint",
    "SimulationResult",
    "run_simulation",
]
