"""The command as a process: it prints its address, notices who leaves, and finishes what runs when it is told to end."""

import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time

import httpx
import pytest
from launcher import ROOT
from serving import FAMILIES, fresh_run, write_run

pytestmark = pytest.mark.slow  # test_app.py has the same routes in this process

LONG = {"prompt": "a", "max_tokens": 2000, "temperature": 0, "stream": True}  # the likeliest token is never the end


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return write_run(fresh_run(FAMILIES["transformer"]), tmp_path_factory.mktemp("served"))


@pytest.fixture
def server(workdir):
    """(process, port) of a server of one slot."""
    command = [sys.executable, "-m", "experiments.serve", f"--workdir={workdir}", "--port=0", "--slots=1",
               "--run=ffff", "--new_tokens=2000", "--canary=a text to watch"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=os.environ | {"SCALING_KEY": "sesame"})
    try:
        line = process.stdout.readline()
        found = re.search(r"served at http://127\.0\.0\.1:(\d+)$", line)
        assert found, line + process.stderr.read()
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """(the file of a certificate of localhost, that of its key)."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    files = [str(tmp_path_factory.mktemp("tls") / name) for name in ("cert.pem", "key.pem")]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-out", files[0],
                    "-keyout", files[1]], check=True, capture_output=True)
    return files


def test_a_certificate_makes_https_and_what_is_none_is_refused(workdir, certificate):
    command = [sys.executable, "-m", "experiments.serve", f"--workdir={workdir}", "--port=0", "--slots=1", "--run=ffff",
               "--canary=", f"--tls_cert={certificate[0]}"]
    process = subprocess.Popen([*command, f"--tls_key={certificate[1]}"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        url = re.search(r"served at (https://127\.0\.0\.1:\d+)$", process.stdout.readline())[1]
        trusted = httpx.Client(verify=ssl.create_default_context(cafile=certificate[0]))
        answer = trusted.post(f"{url}/v1/completions", json={"prompt": "a", "max_tokens": 2, "logprobs": 1})
        assert answer.status_code == 200 and len(answer.json()["choices"][0]["logprobs"]["tokens"]) == 2
        with pytest.raises(httpx.TransportError):
            httpx.get(url.replace("https", "http"))
    finally:
        process.kill()
        process.communicate()
    for wrong, status, says in (([], 2, "go together"), (["--tls_key=/no/such"], 1, "no certificate in PEM with its key"),
                                ([f"--tls_key={certificate[0]}"], 1, "no certificate in PEM with its key")):
        done = subprocess.run([*command, *wrong], cwd=ROOT, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (status, "") and says in done.stderr and done.stderr.count("\n") == 1


def send(port, path, body=None):
    """The response to a request that was sent, and its connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Authorization": "Bearer sesame", "Content-Type": "application/json"}
    connection.request("GET" if body is None else "POST", path, body and json.dumps(body), headers)
    return connection.getresponse(), connection


def figure(port, name):
    text = send(port, "/metrics")[0].read().decode()
    return float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE)[1])


def test_a_server_notices_who_leaves_and_ends_when_what_runs_has_ended(server):
    process, port = server
    assert figure(port, "scaling_canary_drift_nats") == 0
    leaving, connection = send(port, "/v1/completions", LONG)
    assert leaving.readline().startswith(b"data: ")
    whole = http.client.HTTPConnection("127.0.0.1", port)  # waits for the only slot, and goes away as well
    whole.request("POST", "/v1/completions", json.dumps(LONG | {"stream": False}),
                  {"Authorization": "Bearer sesame", "Content-Type": "application/json"})
    until(lambda: figure(port, "scaling_queue_depth") == 1)
    for each in (leaving, connection, whole):
        each.close()
    until(lambda: figure(port, "scaling_slots_in_use") == figure(port, "scaling_queue_depth") == 0)
    assert figure(port, 'scaling_tokens_total{kind="completion"}') < 2000

    answer, _ = send(port, "/v1/completions", LONG | {"max_tokens": 300})
    first = answer.readline()
    process.send_signal(signal.SIGTERM)
    rest = threading.Thread(target=lambda: lines.extend(answer.read().splitlines()))
    lines = [first]
    rest.start()
    until(lambda: refused(port))
    rest.join(60)
    events = [line.removeprefix(b"data: ") for line in lines if line]
    assert events[-1] == b"[DONE]" and json.loads(events[-2])["choices"][0]["finish_reason"] == "length"
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in errors and "sesame" not in errors, errors


def refused(port):
    try:
        send(port, "/health")
    except ConnectionError:
        return True


def until(happens, seconds=60):
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_without_the_extra_the_command_says_what_to_install(tmp_path):
    code = ("import sys, runpy; sys.modules['starlette'] = None; sys.argv = ['serve', '--workdir=x']; "
            "runpy.run_module('experiments.serve', run_name='__main__', alter_sys=True)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.strip().splitlines()[-1].endswith("pip install -e '.[serve]'"), done.stderr
    assert "Traceback" not in done.stderr


def test_only_the_routes_and_the_process_need_the_extra():
    """So the package, and the engine, do without it."""
    needs = re.compile(r"^\s*(?:from|import) (?:starlette|uvicorn|prometheus_client)\b", re.MULTILINE)
    found = {path.stem for path in (ROOT / "scaling").rglob("*.py") if needs.search(path.read_text())}
    assert found == {"app", "doors", "live_app", "monitoring", "server", "writing"}
    around = re.compile(r"^\s*from scaling\.serve\.(?:app|doors|monitoring|server|writing) ", re.MULTILINE)
    assert {path.stem for path in (ROOT / "scaling").rglob("*.py") if around.search(path.read_text())} <= found


@pytest.mark.slow
def test_the_load_test_loses_nothing(workdir, tmp_path):
    command = [sys.executable, "-m", "tools.bench_serve", f"--workdir={workdir}", "--run=ffff", "--clients=6",
               "--requests=12", "--alone=4", "--tokens=8", f"--output={tmp_path / 'serve.json'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "serve.json").read_text())
    assert [each["requests"] for each in found["ways"].values()] == [12, 4, 4] and found["other_texts"] == 0
    assert not any(each["lost"] for each in found["ways"].values()) and found["ratio_same_server"] > 0
