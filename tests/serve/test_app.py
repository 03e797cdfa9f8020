"""The routes: what clients of OpenAI's API send is answered in its shapes, whole and as a stream, and refused in them."""

import base64
import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image
from serving import FAMILIES, LIMITS, ask, events, fresh_run, image_run
from starlette.testclient import TestClient

from scaling.serve.app import make_app
from scaling.serve.monitoring import Canary

RUN = fresh_run(FAMILIES["transformer"])


def client_of(run=RUN, limits=LIMITS, **options):
    return TestClient(make_app(run, limits, **options), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client():
    with client_of(name="best") as found:
        yield found


# ----- completions


def test_a_completion_is_the_text_of_the_run_with_its_counts(client):
    answer = ask(client, n=2, model="best").json()
    wanted = RUN.generate(["def ", "def "], tokens=12, temperature=0.9, seed=7)
    assert [each["text"] for each in answer["choices"]] == wanted
    assert [(each["index"], each["finish_reason"]) for each in answer["choices"]] == [(0, "length"), (1, "length")]
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 24, "total_tokens": 28}
    assert answer["object"] == "text_completion" and answer["model"] == RUN.fingerprint and answer["id"].startswith("cmpl-")


def test_several_prompts_and_tokens_are_prompts_too(client):
    texts = [each["text"] for each in ask(client, prompt=["def ", "a"], temperature=0, n=2).json()["choices"]]
    assert texts[0] == texts[1] != texts[2] == texts[3]
    assert ask(client, prompt=[*b"def "], temperature=0).json()["choices"][0]["text"] == texts[0]
    assert ask(client, prompt=[[*b"def "], [*b"a"]], temperature=0).json()["choices"][1]["text"] == texts[2]
    assert ask(client, prompt="").status_code == 200


def test_a_seed_that_nobody_gave_is_told_and_gives_the_text_again(client):
    first, second = (ask(client, seed=...).json() for _ in range(2))
    assert first["seed"] != second["seed"]
    assert ask(client, seed=first["seed"]).json()["choices"] == first["choices"] != second["choices"]


def test_stops_and_echo(client):
    whole = ask(client).json()["choices"][0]["text"]
    short = ask(client, stop=[whole[5:7], "never"]).json()["choices"][0]
    assert (short["text"], short["finish_reason"]) == (whole[:whole.index(whole[5:7])], "stop")
    assert ask(client, echo=True).json()["choices"][0]["text"] == "def " + whole


@pytest.mark.parametrize("echo", [False, True])
def test_a_stream_adds_up_to_the_whole_text(client, echo):
    whole = ask(client, n=2, echo=echo).json()
    parts = events(ask(client, n=2, echo=echo, stream=True, stream_options={"include_usage": True}))
    assert parts[-1]["choices"] == [] and parts[-1]["usage"] == whole["usage"]
    for want in whole["choices"]:
        mine = [part["choices"][0] for part in parts[:-1] if part["choices"][0]["index"] == want["index"]]
        assert "".join(each["text"] for each in mine) == want["text"] and len(mine) > 3
        assert [each["finish_reason"] for each in mine] == [None] * (len(mine) - 1) + [want["finish_reason"]]
    assert "usage" not in events(ask(client, stream=True))[-1]


# ----- refusals


@pytest.mark.parametrize("changes,status,param,says", [
    ({"prompt": ...}, 400, "prompt", "prompt must be a string"), ({"prompt": [1, 999]}, 400, "prompt", "from 0 to 255"),
    ({"prompt": []}, 400, "prompt", "prompt must be"), ({"prompt": "x" * 17}, 400, "prompt", "most here are 16"),
    ({"prompt": ["a", None]}, 400, "prompt", "must be a string or a list"), ({"max_tokens": 25}, 400, "max_tokens", "24"),
    ({"max_tokens": 0}, 400, "max_tokens", "from 1 on"), ({"max_tokens": True}, 400, "max_tokens", "not True"),
    ({"temperature": "hot"}, 400, "temperature", "'hot'"), ({"temperature": -1}, 400, "temperature", "from 0 to 100"),
    ({"top_p": 0}, 400, "top_p", "above 0"), ({"top_p": 2}, 400, "top_p", "not 2"), ({"n": 13}, 400, "n", "1 to 12 texts"),
    ({"seed": -1}, 400, "seed", "not -1"), ({"stop": [1]}, 400, "stop", "strings"), ({"stop": ""}, 400, "stop", "empty"),
    ({"logprobs": 6}, 400, "logprobs", "from 0 to 5"), ({"suffix": "x"}, 400, "suffix", "not supported"),
    ({"echo": 1}, 400, "echo", "true or false"),
    ({"presence_penalty": 1}, 400, "presence_penalty", "leave it out"),
    ({"temprature": 1}, 400, "temprature", "nearest: temperature"), ({"stream": "yes"}, 400, "stream", "true or false"),
    ({"model": "gpt-4"}, 404, "model", "there is no model 'gpt-4'; there is ffff")])
def test_a_wrong_field_is_named(client, changes, status, param, says):
    answer = ask(client, **changes)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param) and says in error["message"], error
    assert set(error) == {"message", "type", "param", "code"} and "Error" not in error["type"]


def test_fields_that_change_nothing_are_taken(client):
    same = ask(client, user="me", suffix=None, logit_bias={}, presence_penalty=0, best_of=1, top_p=1, logprobs=None)
    assert same.json()["choices"] == ask(client).json()["choices"]


@pytest.mark.parametrize("content,kind,status,says", [
    (b"{", "application/json", 400, "not JSON"), (b"[]", "application/json", 400, "JSON object"),
    (b'{"prompt": "a", "temperature": NaN}', "application/json", 400, "NaN is no number"),
    (b'{"prompt": "a"}', "text/plain", 415, "application/json"),
    (b" " * (1 << 20) + b"{}", "application/json", 413, "bytes"),
    (b'{"prompt": "\\ud800"}', "application/json", 400, "Unicode"), (b"[" * 10**5, "application/json", 400, "not JSON")])
def test_a_body_that_is_no_request_is_refused(client, content, kind, status, says):
    answer = client.post("/v1/completions", content=content, headers={"content-type": kind})
    assert answer.status_code == status and says in answer.json()["error"]["message"]


def test_what_is_not_served_says_what_is(client):
    for answer in (client.get("/v1/completions"), client.post("/v1/chat/completions", json={}), client.get("/nowhere")):
        assert answer.status_code in (404, 405) and "POST /v1/completions" in answer.json()["error"]["message"]
    drawn = client.post("/v1/images/generations", json={"prompt": "a"})
    assert drawn.status_code == 404 and "writes text: POST to /v1/completions" in drawn.json()["error"]["message"]


def test_a_full_queue_is_429_with_the_time_to_wait():
    with client_of(limits=dataclasses.replace(LIMITS, queue=0)) as client:
        engine = client.app.state.service.engine
        engine._running |= dict.fromkeys(range(LIMITS.slots))  # the slots are taken
        answer = ask(client, max_tokens=4)
        engine._running.clear()
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["type"] == "rate_limit_error"
        assert ask(client, max_tokens=4).status_code == 200


def test_a_request_that_takes_too_long_is_504():
    with client_of(limits=dataclasses.replace(LIMITS, seconds=0)) as client:
        assert ask(client, max_tokens=4).status_code == 504
        [last] = [json.loads(line.removeprefix("data: "))
                  for line in ask(client, max_tokens=4, stream=True).text.split("\n\n") if line]
        assert last["error"]["code"] == "timeout"


def test_only_who_has_the_key_comes_in():
    with client_of(key="sesame") as client:
        for headers in ({}, {"authorization": "Bearer other"}, {"authorization": "sesame"}):
            for path in ("/v1/models", "/metrics", "/nowhere"):
                answer = client.get(path, headers=headers)
                assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"
        assert client.get("/health").status_code == client.get("/").status_code == 200
        client.headers["authorization"] = "Bearer sesame"
        assert client.get("/v1/models").status_code == client.get("/metrics").status_code == 200


# ----- the filter


def test_a_filter_keeps_prompts_and_texts_back():
    whole = RUN.generate(["def "], tokens=12, temperature=0.9, seed=7)[0]
    with client_of(content_filter=lambda text: "it is rude" if "rude" in text or whole[:6] in text else None) as client:
        answer = ask(client, prompt="a rude word")
        assert answer.status_code == 400 and "it is rude" in answer.json()["error"]["message"]
        kept = ask(client).json()["choices"][0]
        assert (kept["text"], kept["finish_reason"]) == ("", "content_filter")
        parts = [part["choices"][0] for part in events(ask(client, stream=True))]
        seen = "".join(part["text"] for part in parts)
        assert whole.startswith(seen) and whole[:6] not in seen and parts[-1]["finish_reason"] == "content_filter"


# ----- the rest


def figures(client):
    lines = [line.rpartition(" ") for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_the_figures_count_what_happened():
    loss = [2.0]
    canary = Canary(lambda: loss[0])
    with client_of(canary=canary) as client:
        ask(client, n=3)
        ask(client, n=0)
        client.get("/nowhere/a")
        client.get("/nowhere/b")
        found = figures(client)
        assert found['scaling_requests_total{route="/v1/completions",status="200"}'] == 1
        assert found['scaling_requests_total{route="/v1/completions",status="400"}'] == 1
        assert found['scaling_requests_total{route="other",status="404"}'] == 2
        assert found['scaling_tokens_total{kind="completion"}'] == 36 and found['scaling_tokens_total{kind="prompt"}'] == 4
        assert found["scaling_first_token_seconds_count"] == 1
        assert found['scaling_request_seconds_bucket{le="+Inf",route="/v1/completions"}'] == 2
        assert (found["scaling_slots"], found["scaling_slots_in_use"], found["scaling_queue_depth"]) == (3, 0, 0)
        assert found["scaling_canary_drift_nats"] == 0
        loss[0] = 2.5
        canary.measure()
        assert figures(client)["scaling_canary_drift_nats"] == 0.5


def test_models_health_and_the_page(client):
    [about] = client.get("/v1/models").json()["data"]
    assert (about["id"], about["object"], about["generates"]) == (RUN.fingerprint, "model", "text")
    assert client.get("/v1/models/best").json() == about and client.get("/v1/models/other").status_code == 404
    assert client.get("/health").json() == {"status": "ok", "model": RUN.fingerprint}
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html") and "http" not in page.text.replace('"http-', "")


def test_a_failed_engine_is_unhealthy():
    with client_of() as client:
        client.app.state.service.engine.error = RuntimeError("the device is gone")
        assert client.get("/health").status_code == ask(client).status_code == 503


def test_images_are_those_of_the_run_for_the_label_and_the_seed():
    run = image_run()
    with client_of(run) as client:
        [about] = client.get("/v1/models").json()["data"]
        assert (about["generates"], about["reads"]) == ("images", ["label"])
        answer = client.post("/v1/images/generations", json={"label": 7, "n": 2, "seed": 5}).json()
        files = [io.BytesIO(base64.b64decode(each["b64_json"])) for each in answer["data"]]
        shown = [np.asarray(Image.open(file).convert("L")) for file in files]
        images = run.sample(2, 5, label=7)[..., 0]
        levels = np.round(np.stack(shown)[:, ::4, ::4] / 255 * (run.family.levels - 1))
        np.testing.assert_array_equal(levels, images)
        for wrong, param in (({"n": 0}, "n"), ({"label": 99}, "label"), ({"size": "1024x1024"}, "size"),
                             ({"caption": "a"}, "caption")):
            refused = client.post("/v1/images/generations", json=wrong)
            assert refused.status_code == 400 and refused.json()["error"]["param"] == param, refused.json()
        assert "draws images" in ask(client).json()["error"]["message"]
        assert figures(client)['scaling_requests_total{route="/v1/images/generations",status="200"}'] == 1
