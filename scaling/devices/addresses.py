"""Where the coordinator of a job listens."""

import ipaddress
import socket
import warnings


def bind_address(coordinator) -> str | None:
    """The address of this machine that `coordinator` names, where process 0 then listens; None for every interface.

    None, with a warning, where it names an address that other machines use and that this one does not have, such as that of
    a cluster's service, and where the name of a machine means loopback to itself, as Debian sets it up.
    """
    host, _, port = coordinator.rpartition(":")
    host = host.strip("[]")
    try:
        known = list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)))
    except OSError:
        return None  # the processes will not find each other, and JAX says so
    local = host == "localhost" or host in known
    for address in known:
        if (local or not ipaddress.ip_address(address.partition("%")[0]).is_loopback) and _is_of_this_machine(address):
            return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    warnings.warn(f"--coordinator={coordinator} names no address of this machine that others can reach, so process 0 "
                  "listens on every interface; write the address of one to listen there only", stacklevel=4)
    return None


def _is_of_this_machine(address) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
        return True
    except OSError:
        return False
