"""What --json of the commands does: standard output is one line of JSON, and text for people goes to standard error."""

import contextlib
import os
import sys
from collections.abc import Generator


@contextlib.contextmanager
def answering(asked: bool, quiet: bool = False) -> Generator[dict, None, None]:
    """with answering(_JSON.value) as answer: ...; answer |= {"report": path}

    Gives a dict to fill. Where JSON is `asked` for, whatever is printed inside goes to standard error or, with `quiet`, for
    text that only says what the answer says, nowhere. The dict is printed at the end as one line of strict JSON, with null
    for NaN. A block that raises, or ends the command, prints none.
    """
    answer: dict = {}
    if not asked:
        yield answer
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w")) if quiet else sys.stderr))
        yield answer
    from scaling.store import strict_json  # here, since --help needs none of it

    print(strict_json.dumps(answer), flush=True)
