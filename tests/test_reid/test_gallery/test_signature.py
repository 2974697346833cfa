"""The user's key, and what it vouches for."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from reid.gallery import signature


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


def test_the_key_is_made_once_and_is_nobody_elses(config):
    key = signature.key()
    assert len(key) == 32
    assert signature.key() == key
    path = config / "reidseg" / "index.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [p.name for p in path.parent.iterdir()] == ["index.key"]


def test_two_at_once_make_one_key():
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: signature.key(), range(32)))) == 1


def test_without_the_variable_it_lies_in_the_home(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    signature.key()
    assert (tmp_path / ".config" / "reidseg" / "index.key").exists()


def test_a_broken_key_is_named(config):
    signature.key()
    (config / "reidseg" / "index.key").write_bytes(b"short")
    with pytest.raises(OSError, match=r"index\.key should hold a key of 32 bytes and holds 5"):
        signature.key()


def test_a_signature_fits_its_content_only(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"x" * (3 << 20))
    mark = signature.sign(b"about", file)
    assert signature.fits(mark, b"about", file)
    assert not signature.fits(mark, b"About", file)
    for other in ("", mark[:-1], mark.upper(), None, 5, "ü"):
        assert not signature.fits(other, b"about", file)
    file.write_bytes(b"x" * (3 << 20) + b"y")
    assert not signature.fits(mark, b"about", file)


def test_another_key_signs_otherwise(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"x")
    mark = signature.sign(b"about", file)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another"))
    assert not signature.fits(mark, b"about", file)
