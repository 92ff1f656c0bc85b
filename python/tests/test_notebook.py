"""examples/notebook.ipynb, executed: on the bundled model, and the whole chain on tiny ones."""

import os
import subprocess
import sys

import pytest
from conftest import GOLDEN, ROOT

from styx import _hub

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("requests")

NOTEBOOK = ROOT / "examples" / "notebook.ipynb"


def execute(parameters, monkeypatch, tmp_path):
    """The notebook after a run in which the cell tagged "parameters" says something else."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    book = nbformat.read(NOTEBOOK, as_version=4)
    cell = next(c for c in book.cells if "parameters" in c.metadata.get("tags", []))
    cell.source = parameters
    book.cells.append(nbformat.v4.new_code_cell(
        "import sys; print([m for m in ('torch', 'diffusers', 'transformers') "
        "if m in sys.modules])"))
    nbclient.NotebookClient(book, timeout=600, kernel_name="python3").execute()
    assert book.cells[-1].outputs[0].text.strip() == "[]"
    return book


def texts(book):
    return "".join(o.get("text", "") for c in book.cells for o in c.get("outputs", []))


def pictures(book):
    return [o.data["image/png"] for c in book.cells for o in c.get("outputs", [])
            if "image/png" in o.get("data", {})]


def test_whole_chain_on_tiny_models(monkeypatch, tmp_path):
    models = GOLDEN / "models"
    book = execute(f"SD, BASE, REFINER = {str(models / 'tiny_sd15')!r}, "
                   f"{str(models / 'tiny_sdxl')!r}, {str(models / 'tiny_refiner')!r}\n"
                   "VARIANT, STEPS = None, 125", monkeypatch, tmp_path)
    said = texts(book)
    for bar in ("0/7 [00:00<?, ?it/s]", "0/5 [00:00<?, ?it/s]", "0/125 [00:00<?, ?it/s]",
                "0/15 [00:00<?, ?it/s]", "0/25 [00:00<?, ?it/s]"):
        assert bar in said, f"no bar {bar}"
    assert "Loading pipeline components..." in said
    assert "individual components vae, text_encoder, text_encoder_2, tokenizer, tokenizer_2, " \
           "unet, scheduler, image_encoder, feature_extractor to GPU" in said
    assert len(pictures(book)) >= 5


@pytest.mark.skipif(not _hub.bundled(), reason="no bundled model in this tree")
def test_on_the_bundled_model(monkeypatch, tmp_path):
    book = execute('SD, BASE, REFINER, VARIANT, STEPS = "styx-emoji", None, None, None, 10',
                   monkeypatch, tmp_path)
    assert "0/10 [00:00<?, ?it/s]" in texts(book)
    assert len(pictures(book)) >= 5


@pytest.mark.skipif(not _hub.bundled(), reason="no bundled model in this tree")
@pytest.mark.parametrize("name, written", [
    ("txt2img", ["picture.png"]), ("edit", ["edit-2.png"]), ("inpaint", ["inpaint.png"]),
    ("loop", ["loop.png"]), ("batch", ["batch-11.png", "batch-12.png"])])
def test_examples(name, written, tmp_path):
    subprocess.run([sys.executable, ROOT / "examples" / f"{name}.py"], cwd=tmp_path, check=True,
                   env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)})
    for file in written:
        assert (tmp_path / file).stat().st_size > 1000
