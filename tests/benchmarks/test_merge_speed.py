"""The benchmark of the merge checks what it times."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import merge_child, merge_speed

ROWS, NLIST, CODE_SIZE = 5000, 300, 8


@pytest.fixture
def inputs(tmp_path: Path) -> list[Path]:
    return merge_speed.write_inputs(tmp_path, ROWS, 3, NLIST, CODE_SIZE)


def test_the_merge_is_what_its_lists_are_one_by_one(inputs: list[Path], tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from tests.benchmarks.merge_child import merge;"
    code += "merge([Path(name) for name in sys.argv[2:]], Path(sys.argv[1]))"
    target = tmp_path / "merged"
    subprocess.run([sys.executable, "-c", code, target, *inputs], check=True, cwd=Path(merge_child.__file__).parents[2])
    merge_speed.check(inputs, target, ROWS, NLIST, CODE_SIZE)

    data = bytearray(target.read_bytes())
    data[-3] ^= 1
    target.write_bytes(data)
    with pytest.raises(SystemExit, match="another list 299 than"):
        merge_speed.check(inputs, target, ROWS, NLIST, CODE_SIZE)
    target.write_bytes(data[:-1])
    with pytest.raises(SystemExit, match="made 79999 bytes of 5000 rows"):
        merge_speed.check(inputs, target, ROWS, NLIST, CODE_SIZE)


def test_its_command_line_leaves_the_figures_and_nothing_else(tmp_path: Path) -> None:
    words = ["--rows", "3000", "--inputs", "2", "--nlist", "50", "--repeats", "1", "--folder", str(tmp_path)]
    output = tmp_path / "figures.json"
    argv = [sys.executable, merge_speed.__file__, *words, "--output", str(output)]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, cwd="/")
    found = json.loads(output.read_text())
    assert found["rows"] == 3000 and found["copy"]["seconds"] > 0 and found["merge"]["seconds"] > 0
    assert "times as fast as a copy" in done.stdout
    assert list(tmp_path.iterdir()) == [output]
