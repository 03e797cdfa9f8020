"""How good samples are: how close images and texts are to real ones, and whether they are copies.

    judge = Judge(source)
    judge(images)          # {"fd": ..., "coverage": ..., ...}
    judge.floor()          # the same metrics of real images that are not in the reference set
    judge.memoriser(1000)  # the same metrics of a generator that only repeats the first 1,000 training images
    judge.describe()       # everything that a number depends on: feature space, hash of its weights, resize rule

    judge = PairsJudge(source, samples=1000)
    judge(targets)         # {"bleu": ..., "chrf": ..., "exact": ...} of the targets that a model wrote

`TextJudge` judges windows of text.
"""

from typing import TYPE_CHECKING

from scaling.faces import lazy

if TYPE_CHECKING:
    from scaling.evaluate.classifier import Labeller, Recipe, train_labeller
    from scaling.evaluate.judge import Judge, check_judge
    from scaling.evaluate.pairs import PairsJudge
    from scaling.evaluate.text_judge import TextJudge, check_text_judge

__getattr__, __dir__ = lazy(__name__)
__all__ = ["Judge", "Labeller", "PairsJudge", "Recipe", "TextJudge", "check_judge", "check_text_judge", "train_labeller"]
