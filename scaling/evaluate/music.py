"""What is measured on tunes in ABC notation: whether a parser takes them, whether their bars fit the metre, and their notes
the key."""

from collections.abc import Sequence

from scaling.data.notation import Tune, read_tune, whole_tunes
from scaling.evaluate.texts import Score, ratio


def tune_scores(windows: Sequence[str]) -> dict[str, Score]:
    """Of the tunes that begin in each window of text:

    - tunes_parse: the share that the parser of music21 takes without a warning and finds notes in.
    - in_metre: of the bars between two plain bar lines, the share whose notes last a whole number of times as long as the
      metre says. Collections leave out bar lines where a line of text ends, so two bars may be one.
    - in_key: the share of notes that belong to the scale of the key signature.
    - tunes: the number of tunes in a window.

    in_metre and in_key are of tunes that parse. A metric is 0 where there is nothing to count.
    """
    texts = [whole_tunes(window) for window in windows]
    tunes = [[tune for text in own if (tune := read_tune(text))] for own in texts]
    bars, notes = ([_totals(own, count) for own in tunes] for count in (bars_in_metre, notes_in_key))
    return {"tunes_parse": ratio([len(own) for own in tunes], [len(own) for own in texts]),
            "in_metre": ratio(*zip(*bars)), "in_key": ratio(*zip(*notes)), "tunes": ratio([len(own) for own in texts])}


def bars_in_metre(tune: Tune) -> tuple[int, int]:
    """(bars that fit the metre, bars that are counted): those between two plain bar lines, where there is a metre."""
    fits = [not sum(note.quarters for note in bar) % metre
            for bar, metre, inner in zip(tune.bars, tune.metres, tune.inner) if inner and metre]
    return sum(fits), len(fits)


def notes_in_key(tune: Tune) -> tuple[int, int]:
    """(notes of the scale that the key signature says, all notes)."""
    inside = [pitch % 12 in scale for bar, scale in zip(tune.bars, tune.scales) for note in bar for pitch in note.pitches]
    return sum(inside), len(inside)


def _totals(tunes: Sequence[Tune], count) -> tuple[int, int]:
    found = [count(tune) for tune in tunes]
    return sum(each[0] for each in found), sum(each[1] for each in found)
