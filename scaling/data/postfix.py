"""`postfix`: arithmetic expressions and their postfix form, an exact task without end: "a*(b+c)" to "a b c + *".

The target follows from the source, so a perfect model has no loss, and its BLEU is 100. Pair i is a pure function of i and
of the most operators.
"""

import numpy as np

from scaling.data.examples import Example
from scaling.fields import DataError

OPERATORS = 7            # at most, unless the name says otherwise
MOST = 15
EVALUATED = 1 << 14      # pairs that are held out
TRAINED = 1 << 18        # training pairs, unless `unique_examples` asks for more
BLOCK = 1 << 10          # pairs that one generator draws
SEED = 20                # of all generators
LEVELS = {"+": 1, "-": 1, "*": 2, "/": 2}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def find_expressions(name: str, unique: int) -> tuple[list[Example], list[Example]]:
    """The pairs of `postfix[:<most operators>]`: `unique` of training (0: 2**18), and 2**14 others, in their order.

    Evaluation has no source of training.
    """
    written = name.partition(":")[2] or str(OPERATORS)
    if not written.isdecimal() or not 1 <= int(written) <= MOST:
        raise DataError(f"{name}: {written!r} is no number of operators; write postfix:<number> with 1 to {MOST}")
    train = draw_expressions(int(written), EVALUATED, EVALUATED + (unique or TRAINED))
    known = {example.texts[0] for example in train}
    held_out = [e for e in draw_expressions(int(written), 0, EVALUATED) if e.texts[0] not in known]
    if not held_out:
        raise DataError(f"{name} with {len(train):,} training pairs has no other expressions to evaluate on; write more "
                        "operators, such as postfix:7")
    return train, held_out


def draw_expressions(most: int, start: int, stop: int) -> list[Example]:
    """Pairs number `start` to `stop` - 1 of expressions with 1 to `most` operators."""
    found = []
    for block in range(start // BLOCK, -(-stop // BLOCK)):
        random = np.random.Generator(np.random.Philox(key=[SEED, block])).random((BLOCK, 3 * most + 2))
        for place in range(max(0, start - block * BLOCK), min(BLOCK, stop - block * BLOCK)):
            numbers = iter(random[place])
            tree = _tree(1 + int(next(numbers) * most), numbers)
            found.append(Example(str(block * BLOCK + place), (_infix(tree)[0], " ".join(_postfix(tree)))))
    return found


def _tree(operators: int, numbers):
    """A letter, or (operator, tree, tree)."""
    if not operators:
        return LETTERS[int(next(numbers) * len(LETTERS))]
    left = int(next(numbers) * operators)
    symbol = "+-*/"[int(next(numbers) * 4)]
    return symbol, _tree(left, numbers), _tree(operators - 1 - left, numbers)


def _infix(tree) -> tuple[str, int]:
    """The expression with the fewest parentheses, and how strongly its last operator binds."""
    if isinstance(tree, str):
        return tree, 3
    symbol, left, right = tree
    level = LEVELS[symbol]
    (first, of_first), (second, of_second) = _infix(left), _infix(right)
    first = f"({first})" if of_first < level else first
    second = f"({second})" if of_second <= level else second  # also a-(b+c), since operators group to the left
    return f"{first}{symbol}{second}", level


def _postfix(tree) -> list[str]:
    return [tree] if isinstance(tree, str) else [*_postfix(tree[1]), *_postfix(tree[2]), tree[0]]
