"""Encoders turn pictures and texts into vectors of one space; `transforms.encoders.load` opens one by its name."""
