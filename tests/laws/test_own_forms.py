"""A law of one's own in a file: read, checked with a sentence for every mistake, and found again by saved fits."""
import numpy as np
import pandas as pd
import pytest

from scaling import laws

FILE = '''import numpy as np
from scaling.laws import Amplitude, Form, Parameter

form = Form("offset", "E + A (x + d)^-c", "me", ("x",), (Amplitude("E"), Amplitude("A")),
            (Parameter("c", 0.01, 4.0), Parameter("d", 1e-3, 1e3, scale="log", unit="x", relative=True)),
            lambda p, log: (0.0, -p.c * np.logaddexp(log.x, np.log(p.d))))
'''
MISTAKES = {  # what is replaced: (by what, words of the sentence)
    "p.d": ("p.q", ["'q'", "p.c", "log.x"]), "log.x": ("log.y", ["'y'", "log.x"]), '("x",)': ('("x")', ["inputs", "tuple"]),
    "0.01, 4.0": ("4.0, 0.01", ["low < high"]), "(0.0, -p": ("(-p", ["tuple", "2 amplitudes"]),
    '"offset"': ('"chinchilla"', ["'chinchilla'", "name"]),
    "import numpy": ("import nowhere, numpy", ["line 1", "nowhere"]),
    "0.0, -p.c": ("0.0, 1.0, -p.c", ["2 amplitudes", "3 terms"]),
    "lambda p": ("lambda lambda p", ["line 6", "Python"]), "np.logaddexp": ("np.arctan2", ["line 6", "arctan2"]),
    "form = Form": ("dict", ["line 4"]), 'Amplitude("A")': ('Amplitude("E")', ["'E'"]),
    "1e-3, 1e3": ("0, 1e3", ["above 0"]),
    "np.log(p.d)": ("np.log(-p.d)", ["not finite"]), 'unit="x"': ('unit="n"', ["'n'", "unit"]),
    "form = F": ("form = 3 # F", ["line 5"]),
}


@pytest.mark.parametrize("old", [old for old in MISTAKES if old in FILE])
def test_every_mistake_is_one_sentence_with_its_place(tmp_path, old):
    new, words = MISTAKES[old]
    path = tmp_path / "mine.py"
    path.write_text(FILE.replace(old, new))
    before = dict(laws.FORMS)
    with pytest.raises(laws.LawError) as caught:
        laws.own_form(path)
    said = str(caught.value)
    assert "\n" not in said and str(path) in said and all(word in said for word in words), said
    assert before == laws.FORMS


def test_a_derivative_that_is_not_that_of_the_values_is_refused(tmp_path):
    (tmp_path / "mine.py").write_text('''from scaling.laws import Amplitude, Form, Parameter
from scaling.laws.forms.jets import Jet, chain_rule

def half(c):
    return chain_rule(c.value / 2, [c], [1.0], {}) if isinstance(c, Jet) else c / 2

form = Form("mine", "A x^(-c/2)", "me", ("x",), (Amplitude("A"),), (Parameter("c", 0.01, 4.0),),
            lambda p, log: (-half(p.c) * log.x,))
''')
    with pytest.raises(laws.LawError, match="derivative of the term of A by c"):
        laws.own_form(tmp_path / "mine.py")


def test_one_of_several_laws_is_named(tmp_path):
    path = tmp_path / "two.py"
    path.write_text(FILE + 'other = __import__("dataclasses").replace(form, name="second")\n')
    assert laws.own_form(path, "second").name == "second"
    with pytest.raises(laws.LawError, match="2 laws, offset, second: say which one with --law"):
        laws.own_form(path)
    with pytest.raises(laws.LawError, match="no law 'third'"):
        laws.own_form(path, "third")
    path.write_text("x = 1\n")
    with pytest.raises(laws.LawError, match="makes no law"):
        laws.own_form(path)


def test_a_saved_fit_finds_its_file_again_and_notices_a_change(tmp_path):
    (tmp_path / "code").mkdir()
    path = tmp_path / "code/mine.py"
    path.write_text(FILE)
    x = np.geomspace(1e3, 1e7, 12)
    fit = laws.fit(pd.DataFrame({"x": x, "loss": 2 + 30 * (x + 5e4) ** -0.3}), laws.own_form(path))
    laws.save_fit(tmp_path / "fits/fit.json", fit)
    again = laws.load_fit(tmp_path / "fits/fit.json")
    assert again.params == fit.params and again.predict(1e8) == fit.predict(1e8)
    path.rename(tmp_path / "fits/mine.py")     # a file that lies beside the fit is found too
    assert laws.load_fit(tmp_path / "fits/fit.json").params == fit.params
    (tmp_path / "fits/mine.py").write_text(FILE + "# edited\n")
    with pytest.raises(laws.LawError, match="has changed since"):
        laws.load_fit(tmp_path / "fits/fit.json")
    (tmp_path / "fits/mine.py").unlink()
    with pytest.raises(laws.LawError, match="cannot be read"):
        laws.load_fit(tmp_path / "fits/fit.json")
