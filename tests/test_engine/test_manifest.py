from __future__ import annotations

from engine import manifest


def test_collect() -> None:
    content = manifest.collect_manifest(config="x = 1", seed=5, protocol="p", data={"a": "b"})
    assert (content["config"], content["seed"]) == ("x = 1", 5)
    assert (content["protocol"], content["data"]) == ("p", {"a": "b"})
    assert "torch" in content["versions"] and "no-such-package" not in content["versions"]


def test_git_revision_outside_git(monkeypatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(manifest.subprocess, "run", missing)
    assert manifest.git_revision() is None
