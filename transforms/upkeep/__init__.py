"""An operator's work on a root: is it whole, what may go, back to an earlier generation, who writes.

A new kind of file must be known to `garbage` and to `verify`. What a generation names is in `generations`, where it
lies in `storage.layout`.
"""
