from pathlib import Path

import nbformat

from lib.stages.normalise import WIDGET, normalise, stderr_of

from .conftest import code_cell, notebook

PLACES = {Path("/home/me/project"): "", Path("/home/me"): "~"}


def ran(*outputs: dict, **metadata: object) -> dict:
    cell = code_cell("pass", tags=["x"], papermill={"duration": 1.0}, execution={"iopub": "now"})
    made = notebook(cell | {"outputs": list(outputs), "execution_count": 1, "id": "5e1f"})
    made["metadata"] = {"widgets": {"state": {}}, "papermill": {"start_time": "now"}, **metadata}
    return made


def text(content: str, name: str = "stdout") -> dict:
    return {"output_type": "stream", "name": name, "text": content}


def outputs(*given: dict) -> list[dict]:
    return normalise(ran(*given), places=PLACES, parameters={})["cells"][0]["outputs"]


def test_only_the_parameters_stay_in_the_metadata() -> None:
    done = normalise(ran(), places=PLACES, parameters={"model": "/home/me/models/flux", "n": 2})
    nbformat.validate(nbformat.from_dict(done))
    assert done["metadata"]["palimpsest"] == {"parameters": {"model": "~/models/flux", "n": 2}}
    assert set(done["metadata"]) == {"palimpsest", "kernelspec", "language_info"}
    assert done["cells"][0]["metadata"] == {"tags": ["x"]}
    assert done["cells"][0]["id"] == "cell-000"


def test_stdout_is_one_piece_without_stderr_and_progress() -> None:
    assert outputs(text("a\n1%\r"), text("careful!", "stderr"), text("2%\rdone\nb\r\n")) == [text("a\ndone\nb\n")]


def test_paths_and_addresses_are_masked() -> None:
    shown = (
        "<X at 0x7f00aa11bb22> /home/me/project/runs/a.png '/home/me/project' /home/me/b /home/meadow /home/me/project2"
    )
    hidden = "<X at 0x…> runs/a.png '.' ~/b /home/meadow ~/project2"
    assert outputs(text(shown)) == [text(hidden)]


def test_a_widget_leaves_nothing_and_a_picture_stays() -> None:
    widget = {"output_type": "display_data", "metadata": {}, "data": {WIDGET: {"model_id": "7"}, "text/plain": "Box()"}}
    picture = {"output_type": "display_data", "metadata": {}, "data": {"image/png": "aGVsbG8=\n"}}
    assert outputs(widget, picture) == [picture]


def test_the_random_ids_of_styled_tables_become_numbers() -> None:
    html = {
        "output_type": "display_data",
        "metadata": {},
        "data": {"text/html": "#T_0a1b2_row0 T_0a1b2 T_ffff0 PT_0a1b2c"},
    }
    assert outputs(html)[0]["data"]["text/html"] == "#T_0_row0 T_0 T_1 PT_0a1b2c"


def test_stderr_is_reported_with_the_end_of_a_progress_bar() -> None:
    assert stderr_of(ran(text("1%\r2%\r", "stderr"), text("careful!\n", "stderr"))) == [
        (0, "2%"),
        (0, "careful!"),
    ]
