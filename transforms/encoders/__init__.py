"""Encoders turn pictures and texts into vectors of one space; `transforms.encoders.load` opens one by its name.

A library of models is added here; torch is imported only when one is opened. What calls them is `tasks.embed`, and a
search by text or picture.
"""

from transforms.encoders.encoder import CleansTexts, Encoder, HasEarlier, TakesPixels
from transforms.encoders.loading import absolute_spec, load

__all__ = ["CleansTexts", "Encoder", "HasEarlier", "TakesPixels", "absolute_spec", "load"]
