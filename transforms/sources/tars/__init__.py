"""Tar archives as sources: their members in order (`members`), and what belongs together of them (`samples`), as rows.

Nothing of an archive is ever written to a disk: the name of a member is a name, and no path.
"""
