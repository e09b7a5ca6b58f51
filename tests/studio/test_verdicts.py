"""The picture of the verdicts counts what the ledger counts."""

from lib.claims.verdict import VERDICTS
from lib.studio.verdicts import verdict_bars


def test_a_piece_is_as_long_as_its_number_and_starts_where_the_last_one_ends() -> None:
    counts = {"A": dict(zip(VERDICTS, (3, 0, 2, 1), strict=True)), "B": {VERDICTS[1]: 4}}
    figure = verdict_bars(counts)
    (axes,) = figure.axes
    pieces = [[(bar.get_x(), bar.get_width()) for bar in bars] for bars in axes.containers]
    assert [piece[0] for piece in pieces] == [(0, 3), (3, 0), (3, 2), (5, 1)]
    assert [piece[1] for piece in pieces] == [(0, 0), (0, 4), (4, 0), (4, 0)]
    assert [text.get_text() for text in axes.texts if text.get_text()] == ["3", "4", "2", "1"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(VERDICTS)
