"""What looks like a secret: a file of options holds none, and nobody prints one."""

import re
from typing import Final

from pipelines.terminal.flags import Flag

WAY_OUT: Final = (
    "a file of options holds none: leave it out, and give it in the environment, as its library reads it there"
)

_NAMED: Final = re.compile(r"secret|passw|passphrase|token|credential|(?:access|api|private|account|sas)_?key")
_IN_A_URL: Final = re.compile(
    r"://[^/?#\s@]*:[^/?#\s]*@|[?&](?:sig|signature|[\w-]*(?:-signature|token|secret|key|credential))=", re.IGNORECASE
)
_FILES: Final = ("FILE", "PATH")
"""What stands for the value of a flag that names where a secret is, and is none."""


def is_secret(key: str, flag: Flag | None = None) -> bool:
    """Tells whether the value of a key would be a secret, by its name; a flag that takes a file names none.

    >>> [is_secret(key) for key in ("s3_secret_access_key", "api-key", "index-key", "key-column")]
    [True, True, False, False]
    """
    names_a_file = flag is not None and (flag.metavar or "").startswith(_FILES)
    return not names_a_file and _NAMED.search(key.lower().replace("-", "_")) is not None


def holds_secret(value: str) -> bool:
    """Tells whether a value is a URL with a password, a key or a signature in it.

    >>> [holds_secret(url) for url in ("s3://me:word@bucket", "https://h/a?X-Amz-Signature=0f", "s3://bucket/a@b?v=1")]
    [True, True, False]
    """
    return _IN_A_URL.search(value) is not None
