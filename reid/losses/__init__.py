"""Losses of re-identification: modules called ``loss(x, labels)``, built from a config by type.

``reid.TripletLoss``, ``reid.CrossEntropyLoss``, ``reid.CenterLoss``; their contract is in base.py.
"""

from reid.losses.base import ReIDLoss
from reid.losses.center import CenterLoss
from reid.losses.cross_entropy import CrossEntropyLoss
from reid.losses.triplet import TripletLoss

__all__ = ["CenterLoss", "CrossEntropyLoss", "ReIDLoss", "TripletLoss"]
