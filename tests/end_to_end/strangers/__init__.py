"""Roots that somebody else made: what they name runs nothing, and reaches nothing."""
