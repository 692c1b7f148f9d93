"""Training: it learns, survives kills without a trace in its result, and obeys its recipe."""

import json
import math
import os
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError

import pytest
import torch
from torch import Tensor, nn

from roireg.training.loop import Checkpoint, EpochRecord, fingerprint, fit, write_metrics
from roireg.training.recipe import Length, Recipe

BATCHES = 4
LENGTH = Length(epochs=6, batches_per_epoch=BATCHES)
SGD = Recipe(
    optimizer="sgd",
    learning_rate=0.05,
    weight_decay=1e-3,
    momentum=0.9,
    max_gradient_norm=1.0,
    max_gradient_ratio=None,
    schedule="plateau",
    warmup_epochs=0,
    plateau_factor=0.1,
    plateau_epochs=0,
)
ADAM = replace(SGD, optimizer="adam", learning_rate=0.02, momentum=0.0, schedule="cosine")
ADAMW = replace(SGD, optimizer="adamw", learning_rate=0.02, momentum=0.0, schedule="constant")
RECIPES = {"sgd, plateau": SGD, "adam, cosine": ADAM, "adamw, constant": ADAMW}


class Killed(BaseException):
    """Ends a training in the middle of a batch."""


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))


def loss_of(net: nn.Module, killed_at: int | None = None) -> Callable[[int], Tensor]:
    """Squared error on a noisy target, so that some epochs are worse than the one before."""

    def loss_of_batch(number: int) -> Tensor:
        if number == killed_at:
            raise Killed
        random = torch.Generator().manual_seed(number)
        x, noise = torch.randn(8, 3, generator=random), torch.randn(8, generator=random)
        target = x[:, 0] * x[:, 1] + 0.5 * noise
        return (net(x)[:, 0] - target).square().mean()

    return loss_of_batch


def file_in(folder: Path, content: str = "data") -> Checkpoint:
    return Checkpoint(folder / "checkpoint.pt", content, every_seconds=0.0)


def trained(recipe: Recipe, checkpoint: Checkpoint, seed: int = 0) -> tuple[nn.Module, list[EpochRecord]]:
    net = network(seed)
    return net, fit(net, recipe, LENGTH, loss_of(net), checkpoint)


def killed(recipe: Recipe, checkpoint: Checkpoint, at: int) -> None:
    net = network()
    with pytest.raises(Killed):
        fit(net, recipe, LENGTH, loss_of(net, at), checkpoint)


def weights(net: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def curve(history: list[EpochRecord]) -> list[tuple[int, float, float]]:
    return [(record.epoch, record.loss, record.learning_rate) for record in history]


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_loss_falls(tmp_path: Path, recipe):
    def loss_of_one(net: nn.Module) -> Callable[[int], Tensor]:
        return lambda number: (net(torch.eye(3))[:, 0] - torch.tensor([1.0, -1.0, 0.5])).square().mean()

    net = network()
    history = fit(net, recipe, Length(40, BATCHES), loss_of_one(net), file_in(tmp_path))
    assert history[-1].loss < 0.05 * history[0].loss
    assert [record.epoch for record in history] == list(range(40))
    assert loss_of_one(net)(0).item() == pytest.approx(history[-1].loss, rel=0.5, abs=1e-3)
    assert not net.training


@pytest.mark.parametrize("kills", [(2,), (4,), (9,), (23,), (1, 6, 7, 19)], ids=str)
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_killed_training_goes_on_to_exactly_the_same_end(tmp_path: Path, recipe, kills):
    undisturbed, expected = trained(recipe, file_in(tmp_path / "undisturbed"))
    checkpoint = file_in(tmp_path / "killed")
    for at in kills:
        killed(recipe, checkpoint, at)
    # Before the first checkpoint a training starts from its network; afterwards what the network was does not matter.
    resumed, history = trained(recipe, checkpoint, seed=0 if max(kills) < BATCHES else 1)
    assert torch.equal(weights(resumed), weights(undisturbed))
    assert curve(history) == curve(expected)
    assert all(a.seconds <= b.seconds for a, b in pairwise(history))


def test_the_recipes_of_these_tests_have_a_state_that_a_resumed_training_must_know(tmp_path: Path):
    rates = {
        name: [r.learning_rate for r in trained(recipe, file_in(tmp_path / name))[1]]
        for name, recipe in RECIPES.items()
    }
    assert len(set(rates["sgd, plateau"])) > 2
    assert len(set(rates["adam, cosine"])) == LENGTH.epochs
    assert len(set(rates["adamw, constant"])) == 1


def test_only_whole_epochs_are_trained_again(tmp_path: Path):
    checkpoint = file_in(tmp_path)
    killed(SGD, checkpoint, at=2 * BATCHES + 1)
    net, seen = network(), []
    loss = loss_of(net)
    fit(net, SGD, LENGTH, lambda number: (seen.append(number), loss(number))[1], checkpoint)
    assert seen == list(range(2 * BATCHES, LENGTH.epochs * BATCHES))


def test_a_finished_training_is_not_repeated(tmp_path: Path):
    checkpoint = file_in(tmp_path)
    first, expected = trained(SGD, checkpoint)
    net = network(1)
    history = fit(net, SGD, LENGTH, loss_of(net, killed_at=LENGTH.epochs * BATCHES - 1), checkpoint)
    assert torch.equal(weights(net), weights(first))
    assert history == expected
    assert not net.training


def test_no_checkpoint_is_written_before_its_time(tmp_path: Path):
    trained(SGD, replace(file_in(tmp_path), every_seconds=3600.0))
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_fingerprint_is_not_used(tmp_path: Path):
    killed(SGD, file_in(tmp_path, "other data"), at=10)
    assert file_in(tmp_path).path.is_file()
    undisturbed, expected = trained(SGD, file_in(tmp_path / "undisturbed"))
    net, history = trained(SGD, file_in(tmp_path))
    assert torch.equal(weights(net), weights(undisturbed))
    assert curve(history) == curve(expected)


class _Harmful:
    """Unpickling it creates a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_no_code_in_a_checkpoint_is_executed(tmp_path: Path):
    checkpoint, trace = file_in(tmp_path), tmp_path / "executed"
    state = {"fingerprint": checkpoint.fingerprint, "network": network().state_dict(), "history": _Harmful(trace)}
    torch.save(state, checkpoint.path)
    with suppress(UnpicklingError):
        trained(SGD, checkpoint)
    assert not trace.exists()
    # It would have been.
    torch.save(state, checkpoint.path)
    torch.load(checkpoint.path, weights_only=False)
    assert trace.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 no archive", b"\x80\x02}q\x00", "truncated", "harmful", {"epoch": 3}, torch.zeros(2)],
    ids=["empty", "no archive", "no pickle", "truncated", "harmful", "other keys", "a tensor"],
)
def test_training_starts_anew_from_a_broken_checkpoint(tmp_path: Path, content):
    undisturbed, expected = trained(SGD, file_in(tmp_path / "undisturbed"))
    checkpoint = file_in(tmp_path)
    if content == "truncated":
        killed(SGD, checkpoint, at=10)
        content = checkpoint.path.read_bytes()[:-300]
    elif content == "harmful":
        content = {"fingerprint": checkpoint.fingerprint, "network": _Harmful(tmp_path / "executed")}
    if isinstance(content, bytes):
        checkpoint.path.write_bytes(content)
    else:
        torch.save(content, checkpoint.path)
    net, history = trained(SGD, checkpoint)
    assert torch.equal(weights(net), weights(undisturbed))
    assert curve(history) == curve(expected)


def test_one_bit_of_a_checkpoint_is_enough_to_start_anew(tmp_path: Path, caplog):
    undisturbed, expected = trained(SGD, file_in(tmp_path / "undisturbed"))
    checkpoint = file_in(tmp_path)
    killed(SGD, checkpoint, at=10)
    with zipfile.ZipFile(checkpoint.path) as archive:
        member = next(one for one in archive.infolist() if "/data/" in one.filename and one.file_size)
    content = bytearray(checkpoint.path.read_bytes())
    lengths = content[member.header_offset + 26 : member.header_offset + 30]
    start = member.header_offset + 30 + sum(int.from_bytes(lengths[i : i + 2], "little") for i in (0, 2))
    content[start] ^= 1
    checkpoint.path.write_bytes(content)
    net, history = trained(SGD, checkpoint)
    assert "training starts from the beginning" in caplog.text
    assert torch.equal(weights(net), weights(undisturbed))
    assert curve(history) == curve(expected)


def as_if_from_a_gpu(path: Path) -> None:
    """Rewrite a file of `torch.save` so that its tensors say that they were on a GPU."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    (pickle,) = (name for name in content if name.endswith("data.pkl"))
    on_cpu, on_gpu = b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"
    assert on_cpu in content[pickle]
    content[pickle] = content[pickle].replace(on_cpu, on_gpu)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_training_of_a_gpu_goes_on_without_one(tmp_path: Path, recipe):
    undisturbed, expected = trained(recipe, file_in(tmp_path / "undisturbed"))
    checkpoint = file_in(tmp_path)
    killed(recipe, checkpoint, at=10)
    as_if_from_a_gpu(checkpoint.path)
    resumed, history = trained(recipe, checkpoint, seed=1)
    assert torch.equal(weights(resumed), weights(undisturbed))
    assert curve(history) == curve(expected)


def test_frozen_parameters_stay(tmp_path: Path):
    net = network()
    net[0].requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    fit(net, SGD, LENGTH, loss_of(net), file_in(tmp_path))
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"2.weight", "2.bias"}


@pytest.mark.parametrize("patience", [0, 2])
def test_a_plateau_lowers_the_rate_once_more_than_plateau_epochs_brought_no_lower_loss(tmp_path: Path, patience):
    levels = [3.0, 2.0, *[2.0] * 20]
    net = network()

    def loss_of_level(number: int) -> Tensor:
        return levels[number] + 0 * weights_sum(net)

    recipe = replace(SGD, plateau_epochs=patience)
    history = fit(net, recipe, Length(3 * patience + 6, 1), loss_of_level, file_in(tmp_path))
    rates = [record.learning_rate for record in history]
    # Two epochs that are better than all before, then plateaus of `patience + 1`.
    expected = [0.05 * 0.1 ** max(0, (epoch - 2) // (patience + 1)) for epoch in range(len(rates))]
    assert rates == pytest.approx(expected)


def weights_sum(net: nn.Module) -> Tensor:
    return sum(parameter.sum() for parameter in net.parameters())


def test_a_falling_loss_keeps_the_rate(tmp_path: Path):
    net = network()
    loss = fit(net, SGD, Length(8, 1), lambda number: 1 / (1 + number) + 0 * weights_sum(net), file_in(tmp_path))
    assert {record.learning_rate for record in loss} == {0.05}


def test_a_cosine_ends_near_0(tmp_path: Path):
    net = network()
    history = fit(net, ADAM, Length(50, 1), loss_of(net), file_in(tmp_path))
    expected = [ADAM.learning_rate * (1 + math.cos(math.pi * epoch / 50)) / 2 for epoch in range(50)]
    assert [record.learning_rate for record in history] == pytest.approx(expected)
    assert history[-1].learning_rate < 1e-3 * ADAM.learning_rate


def test_long_gradients_are_shortened_and_short_ones_are_not(tmp_path: Path):
    steps = {}
    for slope in (0.25, 1e3, 1e6):
        net = network()
        before = weights(net)
        recipe = replace(SGD, weight_decay=0.0, max_gradient_norm=2.0)
        # The gradient of the first weight is the slope, that of others is 0.
        fit(net, recipe, Length(1, 1), lambda number, net=net, slope=slope: slope * net[0].bias[0], file_in(tmp_path))
        file_in(tmp_path).path.unlink()
        steps[slope] = float((weights(net) - before).norm())
    nesterov = 1 + SGD.momentum
    assert steps[0.25] == pytest.approx(SGD.learning_rate * nesterov * 0.25, rel=1e-4)
    assert steps[1e3] == pytest.approx(SGD.learning_rate * nesterov * 2.0, rel=1e-4)
    assert steps[1e6] == pytest.approx(steps[1e3], rel=1e-4)


def test_weight_decay_pulls_towards_0(tmp_path: Path):
    for recipe in RECIPES.values():
        net = network()
        before = weights(net).norm()
        file_in(tmp_path).path.unlink(missing_ok=True)
        fit(
            net,
            replace(recipe, weight_decay=0.1),
            LENGTH,
            lambda number, net=net: 0 * weights_sum(net),
            file_in(tmp_path),
        )
        assert weights(net).norm() < 0.99 * before


def test_a_fingerprint_is_of_settings_values_shapes_and_kinds():
    a = torch.arange(6.0)
    prints = [
        fingerprint({"a": 1, "b": 2}, [a]),
        fingerprint({"a": 1, "b": 3}, [a]),
        fingerprint({"a": 1, "b": 2}, [a + 1]),
        fingerprint({"a": 1, "b": 2}, [a.view(2, 3)]),
        fingerprint({"a": 1, "b": 2}, [a.to(torch.uint8)]),
        fingerprint({"a": 1, "b": 2}, [a, a]),
        fingerprint({"a": 1, "b": 2}, []),
    ]
    assert len(set(prints)) == len(prints)
    assert fingerprint({"b": 2, "a": 1}, iter([a.clone()])) == prints[0]
    assert fingerprint({"a": 1, "b": 2}, [a.view(2, 3).T]) == fingerprint({"a": 1, "b": 2}, [a.view(2, 3).T.clone()])


def test_metrics_say_how_and_where_it_was_trained(tmp_path: Path):
    history = [EpochRecord(0, 0.9, 0.1, 1.5), EpochRecord(1, 0.4, 0.05, 3.25)]
    path = tmp_path / "fold" / "metrics.json"
    write_metrics(path, history, 17, torch.device("cpu"), {"left_out": "P01", "images": {"xrays": 4}})
    metrics = json.loads(path.read_text())
    assert metrics["seed"] == 17
    assert metrics["left_out"] == "P01"
    assert metrics["images"] == {"xrays": 4}
    assert metrics["seconds"] == 3.25
    assert metrics["device"] == f"cpu, {torch.get_num_threads()} threads"
    assert metrics["versions"] == {
        name: version(name) for name in ("roireg", "torch", "monai", "segment-anything", "numpy")
    }
    # A process that has imported torch.
    assert 50 < metrics["peak_memory_mib"] < 100_000
    assert metrics["peak_gpu_memory_mib"] is None
    assert [EpochRecord(**record) for record in metrics["learning_curve"]] == history
    assert [file.name for file in path.parent.iterdir()] == ["metrics.json"]
