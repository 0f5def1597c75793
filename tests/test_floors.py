"""docs/architecture.md: no file imports from a floor above, and rooms of a floor do not import each other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("seg_models", "data_scripts", "metrics", "seg_runs")
SCRIPTS = ("train_seg", "predict_seg", "app_gradio")
SHARED = ("seg_jobs", "seg_app")  # may use several rooms, as the scripts do
PROGRAMS = tuple(  # run with `python -m`: scripts
    ROOT / name
    for name in (
        *("data_scripts/check.py", "data_scripts/eda.py", "data_scripts/folds.py"),
        *("data_scripts/prepare.py", "metrics/score.py", "seg_models/export.py"),
        *("seg_runs/complexity.py", "seg_runs/publish.py", "seg_runs/report.py"),
    )
)
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py") if path not in PROGRAMS)
ABOVE = [*(ROOT / f"{name}.py" for name in SCRIPTS), *sorted(p for name in SHARED for p in (ROOT / name).glob("*.py"))]


def imports(path: Path) -> list[tuple[int, str]]:
    """Return (level, top-level module) of every import in a file, those inside functions included."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(0, alias.name.split(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, (node.module or "").split(".")[0]))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_neither_another_room_nor_a_script(path):
    room = path.relative_to(ROOT).parts[0]
    others = {*ROOMS, *SCRIPTS, *SHARED} - {room}
    assert not {module for level, module in imports(path) if level == 0} & others
    depth = len(path.relative_to(ROOT).parts) - 1  # relative imports stay inside the room
    assert all(level <= depth for level, _ in imports(path))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_nothing_imports_a_program(program):
    room, name = program.parent.name, program.stem
    assert 'if __name__ == "__main__":' in program.read_text()
    for path in [*FILES, *PROGRAMS, *ABOVE]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert f"{room}.{name}" not in {alias.name for alias in node.names}, path
            elif isinstance(node, ast.ImportFrom):
                module, names = (node.module or "").split("."), {alias.name for alias in node.names}
                inside = bool(node.level) and path.parent.name == room
                assert module != [room, name] and not (inside and module == [name]), path
                assert not (name in names and (module == [room] or (inside and module == [""]))), path


def test_there_are_rooms_to_check():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(ROOMS)
    assert {path.stem for path in ROOT.glob("*.py")} == set(SCRIPTS)


@pytest.mark.parametrize("path", ABOVE, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_scripts_import_scripts(path):
    """What they share is below them. The demo uses what all share, not the reverse."""
    others = {"seg_app", *SCRIPTS} if path.parent.name == "seg_jobs" else set(SCRIPTS)
    if path.parent != ROOT:
        assert not {module for level, module in imports(path) if level == 0} & others


@pytest.mark.parametrize("path", sorted((ROOT / "seg_models").glob("*.py")), ids=lambda path: path.name)
def test_modelling_files_import_each_other_in_the_form_that_travels(path):
    """transformers copies code by following `from .x import`; it misses `from . import x` and `from .x.y import`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1 and node.module and "." not in node.module


def test_networks_never_touch_files_or_images_of_a_data_set():
    for path in set((ROOT / "seg_models").glob("*.py")) - set(PROGRAMS):
        assert not {module for _, module in imports(path)} & {"datasets", "PIL", "cv2", "pathlib"}


def test_data_scripts_build_no_module_and_know_no_optimizer():
    for path in (ROOT / "data_scripts").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.module not in ("torch.nn", "torch.optim")
                assert not {alias.name for alias in node.names} & {"nn", "optim"}


@pytest.mark.parametrize("path", [*ABOVE, *FILES, *PROGRAMS], ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_say_what_they_take_and_return(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            given = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            given += [argument for argument in (node.args.vararg, node.args.kwarg) if argument]
            bare = [a.arg for a in given if not a.annotation and a.arg not in ("self", "cls")]
            assert not bare, f"{node.name}: {bare}"
            assert node.returns or node.name in ("__init__", "__post_init__"), node.name


@pytest.mark.parametrize("name", ["evaluate", "datasets", "transformers", "accelerate"])
def test_nothing_shadows_a_package_of_the_floor_below(name):
    assert not (ROOT / name).exists() and not (ROOT / f"{name}.py").exists()


def defined(path: Path) -> set[str]:
    """Return the names that a module has at its top level."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)  # of __all__
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_imports_what_is_there(path):
    """Benchmarks take long, so few tests run them: a name that has moved would be noticed too late."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and not node.level:
            parts = node.module.split(".")
            places = [ROOT.joinpath(*parts), ROOT / "benchmarks" / parts[-1]]
            files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
            for file in [file for file in files if file.is_file()][:1]:
                modules = {other.stem for other in file.parent.glob("*") if file.name == "__init__.py"}
                assert {alias.name for alias in node.names} <= defined(file) | modules, node.module
