"""Encoders turn pictures and texts into vectors of one space; `transforms.encoders.load` opens one by its name."""

from transforms.encoders.encoder import Encoder
from transforms.encoders.loading import absolute_spec, load

__all__ = ["Encoder", "absolute_spec", "load"]
