"""The coordinator of a job listens at the address that it was given, and nowhere else."""
import os
import socket
import subprocess
import sys
import time

import pytest
from launcher import ROOT

from scaling.devices import addresses

LEAD = """
import sys, threading
from scaling.devices import hosts
threading.Thread(target=hosts.start, args=(sys.argv[1], 2, 0), daemon=True).start()  # the other process never comes
threading.Event().wait(60)
"""


def connects(address, port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def test_process_0_listens_only_where_it_was_told_to():
    """All of 127.0.0.0/8 is this machine, so a second address of it stands for another interface."""
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", LEAD, f"127.0.0.2:{port}"],
                               env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"})
    try:
        deadline = time.monotonic() + 60
        while not connects("127.0.0.2", port):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        assert not connects("127.0.0.1", port)
    finally:
        process.kill()
        process.wait()


def test_an_address_of_another_machine_is_not_listened_at(monkeypatch):
    assert addresses.bind_address("localhost:12").endswith(":12") and addresses.bind_address("127.0.0.3:7") == "127.0.0.3:7"
    with pytest.warns(UserWarning, match=r"--coordinator=192\.0\.2\.1:7 names no address of this machine"):
        assert addresses.bind_address("192.0.2.1:7") is None
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: [(2, 1, 6, "", ("127.0.1.1", 0))])
    with pytest.warns(UserWarning, match="every interface"):  # what Debian calls a machine by its own name
        assert addresses.bind_address("first:7") is None
