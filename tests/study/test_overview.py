"""Sentences of a plan and of a finished command about packs and about time."""

from sources import tiny

from scaling.experiment import grid
from scaling.study import overview
from scaling.sweeps.plan import make_plan


def test_a_plan_says_how_many_runs_train_side_by_side_and_how_to_change_it():
    runs = grid(tiny("transformer"), {"optim.learning_rate": [1e-3, 2e-3, 3e-3, 4e-3]})
    for pack, said in ((1, "one run after another"), (4, "4 runs side by side")):
        sentence = overview.describe_packs(make_plan(runs, lambda e: "data", pack))
        assert sentence == f"one program trains {said}; --pack=n sets another number, --measure=always measures it"


def test_a_command_says_the_share_of_evaluation_and_what_the_devices_waited():
    shares = {"evaluation_share": 0.071, "compilation_share": 0.1, "waiting_share": 0.01,
              "waiting_seconds_per_group": 0.068}
    assert overview.describe_time(shares) == (
        "evaluation took 7% of the devices' time, and waiting for programs to compile 10%; between groups of runs they "
        "waited 0.07 s each")
    assert overview.describe_time({}) == ""
