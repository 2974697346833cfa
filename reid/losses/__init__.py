"""Losses of re-identification: modules called ``loss(x, labels)``, built from a config by type.

On class scores ``reid.CrossEntropyLoss``; with class weights of their own ``reid.ArcFaceLoss``,
``reid.CosFaceLoss``, ``reid.CircleSoftmaxLoss``; between the images of a batch
``reid.TripletLoss``, ``reid.ContrastiveLoss``, ``reid.CircleLoss`` and, for everything of
pytorch-metric-learning, ``reid.MetricLearningLoss``; to the centers of identities
``reid.CenterLoss``. Their contract is in base.py.
"""

from reid.losses.arcface import ArcFaceLoss
from reid.losses.base import ReIDLoss
from reid.losses.center import CenterLoss
from reid.losses.circle import CircleLoss, CircleSoftmaxLoss
from reid.losses.contrastive import ContrastiveLoss
from reid.losses.cosface import CosFaceLoss
from reid.losses.cross_entropy import CrossEntropyLoss
from reid.losses.metric_learning import MetricLearningLoss
from reid.losses.triplet import TripletLoss

__all__ = [
    "ArcFaceLoss",
    "CenterLoss",
    "CircleLoss",
    "CircleSoftmaxLoss",
    "ContrastiveLoss",
    "CosFaceLoss",
    "CrossEntropyLoss",
    "MetricLearningLoss",
    "ReIDLoss",
    "TripletLoss",
]
