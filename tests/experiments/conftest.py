"""Commands that several files of tests call."""
import pytest
from forked_command import forked


@pytest.fixture(scope="module")
def fit_server():
    # The modules that the command imports late, which take more time than a fit, are imported once.
    with forked("fit", "import scipy.optimize, scipy.stats\nfrom scaling.results import tuned\n"
                       "from scaling.laws.figures import plots") as call:
        yield call


@pytest.fixture
def fit_command(fit_server, tmp_path):
    """fit_command("--law=power", ...) -> the Ran of a call in tmp_path, by default with --bootstrap=0 --nofigures."""
    return lambda *arguments: fit_server(["--nofigures", "--bootstrap=0", *arguments], tmp_path)
