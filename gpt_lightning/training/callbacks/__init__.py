"""Les callbacks : mesurer, montrer, écrire un texte, dessiner, finir."""

from gpt_lightning.training.callbacks.checkpoint import BestCheckpoint, LastCheckpoint
from gpt_lightning.training.callbacks.classes import Confusion
from gpt_lightning.training.callbacks.copied import CopiedShare
from gpt_lightning.training.callbacks.film import Film
from gpt_lightning.training.callbacks.finish import Finish
from gpt_lightning.training.callbacks.first_step import FirstStep
from gpt_lightning.training.callbacks.monitor import Monitor
from gpt_lightning.training.callbacks.page import ReportPage
from gpt_lightning.training.callbacks.plot import LossPlot
from gpt_lightning.training.callbacks.progress import Lines, Progress
from gpt_lightning.training.callbacks.sample import SampleText
from gpt_lightning.training.callbacks.stop import StopOnSignal, Stopped
from gpt_lightning.training.callbacks.tasks import TaskScores
from gpt_lightning.training.callbacks.train_eval import TrainLossEval

__all__ = [
    "BestCheckpoint",
    "Confusion",
    "CopiedShare",
    "Film",
    "Finish",
    "FirstStep",
    "LastCheckpoint",
    "Lines",
    "LossPlot",
    "Monitor",
    "Progress",
    "ReportPage",
    "SampleText",
    "StopOnSignal",
    "Stopped",
    "TaskScores",
    "TrainLossEval",
]
