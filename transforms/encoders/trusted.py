"""Whose code a root may name: its encoder's class is imported only where whoever runs the command has named it, too.

A root may come from anybody, and importing a module runs it. Encoders of pixdex's own kinds run no code of the root's.
"""

import os
from typing import Final

from transforms.encoders.loading import absolute_spec, is_class_of_ones_own
from transforms.errors import UsageError

VARIABLE: Final = "PIXDEX_TRUSTED_ENCODERS"
"""An environment variable: specs `module:Class`, or modules all of whose classes are trusted, with commas between."""


def check(spec: str, named: str | None) -> None:
    """Refuses to open the encoder that a root names unless it is trusted.

    Args:
        spec: the encoder of the root.
        named: what the command line says with `--encoder`, if anything.

    Raises:
        UsageError: the command line names another encoder, or nobody trusts this one.
    """
    if named is not None and absolute_spec(named) != spec:
        raise UsageError(f"--encoder {named} is not the encoder of this root, which is {spec}: leave --encoder out")
    if named is not None or not is_class_of_ones_own(spec) or _is_trusted(spec):
        return
    raise UsageError(
        f"the encoder of this root is the class {spec}, whose module would be run: if you trust it, "
        f"say --encoder {spec}, or set {VARIABLE}={spec}"
    )


def _is_trusted(spec: str) -> bool:
    trusted = {name.strip() for name in os.environ.get(VARIABLE, "").split(",")}
    return spec in trusted or spec.partition(":")[0] in trusted
