"""Shows metrics of chosen members elsewhere too: in TensorBoard, Weights & Biases, MLflow, or by a logger of yours.

A logger is called between chunks of updates, on the host. One that fails is reported and left out, and the run
continues: the metrics of record are those of the run folder.
"""

from haepo_jax.runs.loggers.interface import LoggedRun, Logger
from haepo_jax.runs.loggers.members import BUILT_IN, MakeLogger, MemberLoggers, Request, make_request, open_loggers

__all__ = ["BUILT_IN", "LoggedRun", "Logger", "MakeLogger", "MemberLoggers", "Request", "make_request", "open_loggers"]
