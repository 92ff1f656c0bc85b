"""The type stubs say what is there: names and parameters."""

import ast
import inspect

import pytest
from conftest import ROOT

from styx import diffusers, transformers


@pytest.mark.parametrize("file, module", [("diffusers/__init__.pyi", diffusers),
                                          ("transformers.pyi", transformers)])
def test_stubs(file, module):
    tree = ast.parse((ROOT / "python" / "styx" / file).read_text())
    classes = {c.name: c for c in tree.body if isinstance(c, ast.ClassDef)}
    assert not [n for n in module.__all__ if n not in classes]
    for name in module.__all__:
        for stub in classes[name].body:
            if isinstance(stub, ast.FunctionDef) and stub.name != "__init__":
                real = getattr(getattr(module, name), stub.name)
                if not callable(real):
                    continue
                got = [p.name for p in inspect.signature(real).parameters.values()
                       if p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in ("self", "cls")]
                wanted = [a.arg for a in stub.args.args if a.arg not in ("self", "cls")]
                assert got[:len(wanted)] == wanted, f"{name}.{stub.name}"
