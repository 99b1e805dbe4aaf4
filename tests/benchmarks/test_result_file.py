"""What every benchmark leaves behind."""

from __future__ import annotations

import json


def test_a_result_says_when_and_on_what_it_was_measured(benchmark, tmp_path, capsys):
    path = benchmark("result_file").write_result(tmp_path / "new", "step", {"rows": [1]})
    assert path == benchmark("result_file").result_path(tmp_path / "new", "step")
    assert str(path) in capsys.readouterr().out
    result = json.loads(path.read_text("utf-8"))
    assert list(result) == ["date", "machine", "versions", "rows"]
    assert path.name == f"step_{result['machine']['processor']}-{result['machine']['cores']}cores_{result['date']}.json"
    assert result["versions"]["torch"]
    assert result["rows"] == [1]
