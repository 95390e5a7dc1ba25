"""A translation stage as a file, its vocabulary, and the script of the page that reads them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rewind_ray.errors import UserError
from rewind_ray.export import read_safetensors
from rewind_ray.export.command import export_command
from rewind_ray.schedule import Schedule
from rewind_ray.spec import dense_stage
from rewind_ray.store.checkpoint import load_network_
from rewind_ray.tasks import translation
from tests.rewind_ray.tasks.words import task, words
from tests.rewind_ray.tiny_stages import Lab, child

PAGE = Path(__file__).parents[3] / "docs" / "translation.md"


def test_an_exported_network_translates_as_the_stage_does(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dense = dense_stage(words(), seed=0)
    pruned = child(dense, "lr_rewind", 1)
    for stage in (dense, pruned):
        lab.run(stage)
    file = tmp_path / "small.safetensors"
    with monkeypatch.context() as without_text:
        without_text.setattr(translation, "prepare", None)
        export_command(pruned.stage_id, storage=str(lab.storage), out=str(file))
    card = Path(f"{file}.md").read_text()
    assert "read_safetensors('small.safetensors')" in card and "bleu on test data" in card
    assert "sentencepiece's model `small.safetensors.vocabulary`" in card
    network, facts = read_safetensors(file)
    assert facts["row"]["metric"] == "bleu"
    beside = json.loads(Path(f"{file}.json").read_text())["vocabulary"]
    assert (tmp_path / beside["file"]).read_bytes() == task().text.vocabulary.model

    of = task()
    trained = of.network(0)
    load_network_(trained, lab.point(pruned))
    sentences = of.text.vocabulary.encode(["seven hundred thousand and twelve", "one"])
    assert of.translate(network, sentences) == of.translate(trained.eval(), sentences)

    script = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert script is not None
    monkeypatch.chdir(tmp_path)
    exec(compile(script[1], str(PAGE), "exec"), {})
    wide = task(task_options={"beam_width": 5, "longest_output": 60})
    (expected,) = of.text.vocabulary.decode(wide.translate(trained.eval(), sentences[:1]))
    assert capsys.readouterr().out.splitlines()[-1] == expected


def test_what_translation_has_not_is_refused(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stage = dense_stage(words(epochs=1, schedule=Schedule(lr=0.01)), seed=0)
    lab.run(stage)
    for refused in ({"format": "pt2"}, {"latency": True}):
        with pytest.raises(UserError, match="translation"):
            export_command(stage.stage_id, storage=str(lab.storage), **refused)  # type: ignore[arg-type]
