"""A network within this machine: a namespace for each TaskManager, and a bridge between them."""

import contextlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from errors import ClusterError

BRIDGE: Final = "pixdex"
SUBNET: Final = "198.18.{}"  # the block that is set aside for tests of networks


def ip(*words: str) -> None:
    """Runs the `ip` command.

    Raises:
        ClusterError: it refuses.
    """
    done = subprocess.run(["ip", *words], capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise ClusterError(
            f"ip {' '.join(words)}: {' '.join(done.stderr.split())}; several TaskManagers take network namespaces: "
            "start one, with more --slots"
        )


def free_subnet() -> str:
    """The first three numbers of addresses that this machine does not use."""
    used = subprocess.run(["ip", "-o", "addr"], capture_output=True, encoding="utf-8", check=True).stdout
    return next(SUBNET.format(number) for number in range(256) if f" {SUBNET.format(number)}." not in used)


def connect(addresses: Mapping[str, str]) -> None:
    """Makes namespaces with an address each, if they are not there.

    Their names begin with that of their bridge, which has the first address of their subnet: this machine's.
    """
    if all(_exists(namespace) for namespace in addresses):
        return
    (bridge,) = {namespace.partition("-")[0] for namespace in addresses}
    (subnet,) = {address.rpartition(".")[0] for address in addresses.values()}
    ip("link", "add", bridge, "type", "bridge")
    ip("addr", "add", f"{subnet}.1/24", "dev", bridge)
    ip("link", "set", bridge, "up")
    for namespace, address in addresses.items():
        ip("netns", "add", namespace)
        ip("link", "add", namespace, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        ip("link", "set", namespace, "master", bridge, "up")
        ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        ip("-n", namespace, "link", "set", "eth0", "up")
        ip("-n", namespace, "link", "set", "lo", "up")


def disconnect(namespaces: Sequence[str]) -> None:
    """Removes namespaces, with their interfaces, and their bridge."""
    for namespace in filter(_exists, namespaces):
        ip("netns", "delete", namespace)
    # The other end of each is in its namespace, and goes with it.
    for link in [*namespaces, *{namespace.partition("-")[0] for namespace in namespaces}]:
        if Path(f"/sys/class/net/{link}").exists():
            with contextlib.suppress(ClusterError):  # it went just now
                ip("link", "delete", link)


def _exists(namespace: str) -> bool:
    return Path(f"/run/netns/{namespace}").exists()
