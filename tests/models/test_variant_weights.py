"""Stored weights of variants: the same as applying them, written once, nothing half-written or damaged used."""

import threading

import pytest

from scoring.errors import InvalidInput, Unavailable, VerificationFailed

pytestmark = pytest.mark.slow


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache folder."""
    monkeypatch.setenv("QUIVER_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def fresh(tiny_folder):
    from models.load import load_model

    return load_model(str(tiny_folder), dtype="fp32", device="cpu")


def list_folders(cache):
    return [path for path in (cache / "models").iterdir() if path.is_dir()]


@pytest.mark.parametrize("name", ["int8", "fp8", "int6", "int5", "int4"])
def test_stored_weights_are_those_of_the_variant(cache, tiny, fresh, name):
    import torch

    from models.variant_weights import WeightsShelf
    from models.variants import apply_variant

    expected = apply_variant(fresh, name).model
    found = WeightsShelf(tiny).open_variant(name).model
    for place, parameter in expected.named_parameters():
        assert torch.equal(found.get_parameter(place), parameter), place
    ids = torch.tensor([[5, 9, 200]])
    with torch.inference_mode():
        assert torch.equal(found(input_ids=ids).logits, expected(input_ids=ids).logits)


def test_the_claimed_model_stays_and_lends_what_is_equal(cache, tiny):
    import torch

    from models.variant_weights import WeightsShelf

    before = {name: value.clone() for name, value in tiny.model.named_parameters()}
    other = WeightsShelf(tiny).open_variant("int4")
    assert all(torch.equal(value, before[name]) for name, value in tiny.model.named_parameters())
    embeddings = tiny.model.get_input_embeddings().weight
    assert other.model.get_input_embeddings().weight.data_ptr() == embeddings.data_ptr()


def test_a_packed_layer_of_the_claimed_model_does_not_compute_for_the_variant(cache, fresh):
    import torch

    from models.variant_weights import WeightsShelf
    from models.variants import list_linear_layers

    for _, module in list_linear_layers(fresh.model):
        module.forward = lambda values: pytest.fail("the claimed weights were used")
    other = WeightsShelf(fresh).open_variant("int4")
    with torch.inference_mode():
        other.model(input_ids=torch.tensor([[1, 2]]))


def test_a_model_without_a_layer_is_the_instrument_that_drops_it_and_shares_every_weight(tiny, fresh):
    import torch

    from models.variant_weights import WeightsShelf
    from models.variants import apply_variant

    expected = apply_variant(fresh, "drop-layer", 1).model
    layers = len(tiny.model.get_decoder().layers)
    shelf = WeightsShelf(tiny)
    found = shelf.open_without_layer(1)
    assert shelf.open_without_layer(1) is found
    ids = torch.tensor([[5, 9, 200]])
    with torch.inference_mode():
        assert torch.equal(found.model(input_ids=ids).logits, expected(input_ids=ids).logits)
        assert not torch.equal(found.model(input_ids=ids).logits, tiny.model(input_ids=ids).logits)
    own = {value.data_ptr() for value in tiny.model.parameters()}
    assert {value.data_ptr() for value in found.model.parameters()} < own
    assert len(tiny.model.get_decoder().layers) == tiny.model.config.num_hidden_layers == layers


def test_refuses_to_leave_out_a_layer_that_is_not_there(tiny):
    from models.variant_weights import WeightsShelf

    with pytest.raises(InvalidInput, match="layers of this model"):
        WeightsShelf(tiny).open_without_layer(99)


def test_several_at_once_write_once(cache, tiny, monkeypatch):
    from models import variant_weights

    written = []
    write = variant_weights._write_variant
    monkeypatch.setattr(variant_weights, "_write_variant", lambda *given: (written.append(given), write(*given)))
    threads = [threading.Thread(target=variant_weights.prepare_variant, args=(tiny, "int4")) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1 and len(list_folders(cache)) == 1


def test_writing_that_was_killed_half_way_is_done_again(cache, tiny, monkeypatch):
    from models import variant_weights

    def die(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(variant_weights, "compute_file_digest", die)
        with pytest.raises(KeyboardInterrupt):
            variant_weights.prepare_variant(tiny, "int4")
    assert [path.suffix for path in list_folders(cache)] == [".part"]
    folder = variant_weights.prepare_variant(tiny, "int4")
    assert list_folders(cache) == [folder]


def test_weights_that_are_not_the_claimed_ones_are_kept_apart(cache, tiny, fresh):
    from models.variant_weights import prepare_variant
    from models.variants import apply_variant

    apply_variant(fresh, "int8")
    assert prepare_variant(fresh, "int4") != prepare_variant(tiny, "int4")


DAMAGES = [
    ("a changed byte", lambda folder: flip_last_byte(folder / "model.safetensors")),
    ("no weights", lambda folder: (folder / "model.safetensors").unlink()),
    ("an empty record", lambda folder: (folder / "quiver-files.json").write_bytes(b"")),
    ("a record of another shape", lambda folder: (folder / "quiver-files.json").write_bytes(b'{"files":[]}')),
]


def flip_last_byte(path):
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize(("name", "damage"), DAMAGES, ids=[name for name, _ in DAMAGES])
def test_damaged_weights_are_refused_and_named(cache, tiny, name, damage):
    from models.variant_weights import WeightsShelf, prepare_variant

    folder = prepare_variant(tiny, "int4")
    damage(folder)
    with pytest.raises(VerificationFailed, match=str(folder)):
        WeightsShelf(tiny).open_variant("int4")


def test_a_cache_that_cannot_be_written_is_said_by_name(cache, tiny):
    from models.variant_weights import WeightsShelf

    cache.write_text("a file where the folder should be")
    with pytest.raises(Unavailable, match="QUIVER_CACHE_DIR"):
        WeightsShelf(tiny).open_variant("int4")


def test_the_shelf_holds_one_alternative(cache, tiny, monkeypatch):
    import gc
    import weakref

    from models import variant_weights
    from models.variant_weights import WeightsShelf

    shelf = WeightsShelf(tiny)
    first = shelf.open_variant("int4")
    assert shelf.open_variant("int4") is first
    gone = weakref.ref(first.model)
    del first

    def load(path):
        gc.collect()
        assert gone() is None, "two variants in memory at once"
        return load_file(path)

    load_file = variant_weights.load_file
    monkeypatch.setattr(variant_weights, "load_file", load)
    shelf.open_variant("int8")


def test_an_unknown_variant_is_refused(tiny):
    from models.variant_weights import WeightsShelf

    with pytest.raises(InvalidInput, match="int8"):
        WeightsShelf(tiny).open_variant("drop-layer")
