"""The order of a run: from notes and names as trainers leave them, never wrong in silence."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncscan.ordering import BESIDE, NOT_KNOWN, ORDER, CheckpointRecord, counts_in, order_run
from ncscan.ordering.names import numbers_in


def record(name: str, tensors: str = "", *, beside: int | None = None, **notes: int) -> CheckpointRecord:
    """A checkpoint as extract records it: `notes` in its file, `beside` it the step of a trainer's state."""
    step, epoch, number = counts_in(name)
    noted = {"step": "iteration", "epoch": "epoch"}
    return CheckpointRecord(
        "run",
        name,
        notes.get("step", step if beside is None else beside),
        notes.get("epoch", epoch),
        number,
        tensors or name,
        noted=frozenset(noted[each] for each in notes),
    )


def named(*names: str) -> list[CheckpointRecord]:
    return [record(name) for name in names]


class Expected(NamedTuple):
    unit: str
    series: Mapping[str, int]
    twins: Mapping[str, str] = {}
    beside: Sequence[str] = []


def trainer(*others: CheckpointRecord, state: bool = True) -> list[CheckpointRecord]:
    steps = range(100, 1100, 100)
    return [
        *(record(f"checkpoint-{n}/model.safetensors", f"at {n}", beside=n if state else None) for n in steps),
        *others,
    ]


HUNDREDS = {f"checkpoint-{n}/model.safetensors": n for n in range(100, 1100, 100)}
BEST, FINAL = "best/model.safetensors", "final/model.safetensors"

RUNS: Mapping[str, tuple[list[CheckpointRecord], Expected]] = {
    "transformers' Trainer, with the state beside": (
        trainer(record(BEST, "at 600"), record(FINAL, "at 1000", beside=1000)),
        Expected(
            "iteration",
            HUNDREDS,
            {BEST: "checkpoint-600/model.safetensors", FINAL: "checkpoint-1000/model.safetensors"},
        ),
    ),
    "Trainer, whose final weights are the best ones": (
        trainer(record(FINAL, "at 600", beside=1000)),
        Expected("iteration", HUNDREDS, {FINAL: "checkpoint-600/model.safetensors"}),
    ),
    "Trainer, by names alone": (
        trainer(record(BEST, "at 600"), state=False),
        Expected("file", HUNDREDS, {BEST: "checkpoint-600/model.safetensors"}),
    ),
    "Trainer, saved at the top too": (
        trainer(record("model.safetensors", "at 1000", beside=1000)),
        Expected("iteration", HUNDREDS, {"model.safetensors": "checkpoint-1000/model.safetensors"}),
    ),
    "Trainer, with the best weights at the top": (
        trainer(record("model.safetensors", "at 600", beside=1000)),
        Expected("iteration", HUNDREDS, {"model.safetensors": "checkpoint-600/model.safetensors"}),
    ),
    "Trainer, whose final weights may be of any step": (
        trainer(record(FINAL, "those of a step that was deleted", beside=1200)),
        Expected("iteration", HUNDREDS, {}, [FINAL]),
    ),
    "Lightning": (
        [
            record("epoch=03-step=400.ckpt", step=400, epoch=3),
            record("epoch=12-step=1300.ckpt", step=1300, epoch=12),
            record("epoch=7-step=800.ckpt", step=800, epoch=7),
            record("last.ckpt", step=1500, epoch=14),
            record("last-v1.ckpt", "last.ckpt", step=1500, epoch=14),
        ],
        Expected(
            "iteration",
            {
                "epoch=03-step=400.ckpt": 400,
                "epoch=7-step=800.ckpt": 800,
                "epoch=12-step=1300.ckpt": 1300,
                "last.ckpt": 1500,
            },
            {"last-v1.ckpt": "last.ckpt"},
        ),
    ),
    "Lightning, with a metric": (
        named("epoch=10-val_loss=0.02.ckpt", "epoch=9-val_loss=0.31.ckpt", "epoch=00-val_loss=0.99.ckpt"),
        Expected(
            "epoch",
            {
                "epoch=00-val_loss=0.99.ckpt": 0,
                "epoch=9-val_loss=0.31.ckpt": 9,
                "epoch=10-val_loss=0.02.ckpt": 10,
            },
        ),
    ),
    "timm": (
        [
            *(record(f"checkpoint-{n}.pth.tar", f"at {n}", epoch=n) for n in (8, 9, 10, 11, 12)),
            record("model_best.pth.tar", "at 9", epoch=9),
            record("last.pth.tar", "at 12", epoch=12),
        ],
        Expected(
            "epoch",
            {f"checkpoint-{n}.pth.tar": n for n in (8, 9, 10, 11, 12)},
            {"last.pth.tar": "checkpoint-12.pth.tar", "model_best.pth.tar": "checkpoint-9.pth.tar"},
        ),
    ),
    "mmengine": (
        [*named("epoch_9.pth", "epoch_12.pth", "epoch_100.pth"), record("latest.pth", "epoch_100.pth")],
        Expected(
            "epoch", {"epoch_9.pth": 9, "epoch_12.pth": 12, "epoch_100.pth": 100}, {"latest.pth": "epoch_100.pth"}
        ),
    ),
    "mmengine, by iterations": (
        named("iter_10000.pth", "iter_2000.pth"),
        Expected("iteration", {"iter_2000.pth": 2000, "iter_10000.pth": 10000}),
    ),
    "detectron2": (
        [
            record("model_0004999.pth"),
            record("model_0009999.pth"),
            record("model_0014999.pth"),
            record("model_final.pth", "model_0014999.pth"),
        ],
        Expected(
            "file",
            {"model_0004999.pth": 4999, "model_0009999.pth": 9999, "model_0014999.pth": 14999},
            {"model_final.pth": "model_0014999.pth"},
        ),
    ),
    "fairseq": (
        [
            *named("checkpoint9.pt", "checkpoint10.pt", "checkpoint11.pt", "checkpoint_last.pt"),
            record("checkpoint_best.pt", "checkpoint9.pt"),
        ],
        Expected(
            "file",
            {"checkpoint9.pt": 9, "checkpoint10.pt": 10, "checkpoint11.pt": 11},
            {"checkpoint_best.pt": "checkpoint9.pt"},
            ["checkpoint_last.pt"],
        ),
    ),
    "fairseq, by updates": (
        named("checkpoint_12_30000.pt", "checkpoint_1_2500.pt", "checkpoint_1_500.pt"),
        Expected("file", {"checkpoint_1_500.pt": 500, "checkpoint_1_2500.pt": 2500, "checkpoint_12_30000.pt": 30000}),
    ),
    "Megatron": (
        named("iter_0005000/mp_rank_00/model_optim_rng.pt", "iter_0010000/mp_rank_00/model_optim_rng.pt"),
        Expected(
            "iteration",
            {
                "iter_0005000/mp_rank_00/model_optim_rng.pt": 5000,
                "iter_0010000/mp_rank_00/model_optim_rng.pt": 10000,
            },
        ),
    ),
    "DeepSpeed": (
        named("global_step1000/mp_rank_00_model_states.pt", "global_step500/mp_rank_00_model_states.pt"),
        Expected(
            "iteration",
            {
                "global_step500/mp_rank_00_model_states.pt": 500,
                "global_step1000/mp_rank_00_model_states.pt": 1000,
            },
        ),
    ),
    "pythia": (
        named("step1000/pytorch_model.bin", "step512/pytorch_model.bin", "step0/pytorch_model.bin"),
        Expected(
            "iteration",
            {"step0/pytorch_model.bin": 0, "step512/pytorch_model.bin": 512, "step1000/pytorch_model.bin": 1000},
        ),
    ),
    "nanoGPT": (
        named("ckpt_10k.pt", "ckpt_500.pt", "ckpt_1M.pt", "ckpt_2k.pt"),
        Expected("file", {"ckpt_500.pt": 500, "ckpt_2k.pt": 2000, "ckpt_10k.pt": 10000, "ckpt_1M.pt": 1_000_000}),
    ),
    "keras": (
        named("weights.12-0.34.pt", "weights.2-0.94.pt", "weights.03-0.71.pt"),
        Expected("file", {"weights.2-0.94.pt": 2, "weights.03-0.71.pt": 3, "weights.12-0.34.pt": 12}),
    ),
    "a learning rate": (
        named("net_e11_lr0.1.pt", "net_e9_lr0.1.pt", "net_e4_lr0.01.pt"),
        Expected("epoch", {"net_e4_lr0.01.pt": 4, "net_e9_lr0.1.pt": 9, "net_e11_lr0.1.pt": 11}),
    ),
    "powers of ten": (
        named("model_1e4.pt", "model_2e3.pt", "model_1e5.pt"),
        Expected("file", {"model_2e3.pt": 2000, "model_1e4.pt": 10000, "model_1e5.pt": 100_000}),
    ),
    "a step that is always 0": (
        [record(f"ckpt{n}.pt", epoch=n, step=0) for n in (0, 1, 4, 8, 9, 11)],
        Expected("epoch", {f"ckpt{n}.pt": n for n in (0, 1, 4, 8, 9, 11)}),
    ),
    "a constant in the notes, and numbers in the names": (
        [record(f"ckpt{n}.pt", step=0) for n in (9, 10)],
        Expected("file", {"ckpt9.pt": 9, "ckpt10.pt": 10}),
    ),
    "steps within an epoch": (
        named("epoch_1_iter_500.pt", "epoch_1_iter_1000.pt", "epoch_2_iter_500.pt"),
        Expected(ORDER, {"epoch_1_iter_500.pt": 0, "epoch_1_iter_1000.pt": 1, "epoch_2_iter_500.pt": 2}),
    ),
    "steps that begin again, one an epoch": (
        [record("a.pt", epoch=1, step=390), record("b.pt", epoch=2, step=388), record("c.pt", epoch=3, step=391)],
        Expected("epoch", {"a.pt": 1, "b.pt": 2, "c.pt": 3}),
    ),
    "some notes, some names": (
        [record("epoch_1.pt", step=100, epoch=1), record("epoch_10.pt"), record("epoch_9.pt", epoch=9)],
        Expected("epoch", {"epoch_1.pt": 1, "epoch_9.pt": 9, "epoch_10.pt": 10}),
    ),
    "averages beside the weights": (
        named("ema_0.9999_010000.pt", "ema_0.9999_020000.pt", "model010000.pt", "model020000.pt", "swa.pt"),
        Expected(
            "file",
            {"model010000.pt": 10000, "model020000.pt": 20000},
            {},
            ["ema_0.9999_010000.pt", "ema_0.9999_020000.pt", "swa.pt"],
        ),
    ),
    "a best one with its epoch": (
        [
            *named("epoch_1.pt", "epoch_2.pt", "epoch_3.pt"),
            record("best_epoch_2.pt", "epoch_2.pt"),
            record("best_epoch_3.pt", "other"),
        ],
        Expected(
            "epoch",
            {"epoch_1.pt": 1, "epoch_2.pt": 2, "epoch_3.pt": 3},
            {"best_epoch_2.pt": "epoch_2.pt"},
            ["best_epoch_3.pt"],
        ),
    ),
    "architectures, seeds and precisions": (
        named("vit_b_16_fp16_seed2_epoch9.pt", "vit_b_16_fp16_seed2_epoch10.pt"),
        Expected("epoch", {"vit_b_16_fp16_seed2_epoch9.pt": 9, "vit_b_16_fp16_seed2_epoch10.pt": 10}),
    ),
    "a number of leading zeros": (
        named("resnet18_seed2-0350.pt", "resnet18_seed2-0005.pt", "resnet18_seed2-1000.pt"),
        Expected("file", {f"resnet18_seed2-{n:04}.pt": n for n in (5, 350, 1000)}),
    ),
    "a folder of one, without a number": ([record("model_best.pt")], Expected(ORDER, {"model_best.pt": 0})),
    "best and last, the same": (
        [record("best.pt", "x"), record("last.pt", "x")],
        Expected(ORDER, {"last.pt": 0}, {"best.pt": "last.pt"}),
    ),
    "one file without a number": (
        named("step_9.pt", "step_10.pt", "step_100.pt", "mine.pt"),
        Expected("iteration", {"step_9.pt": 9, "step_10.pt": 10, "step_100.pt": 100}, {}, ["mine.pt"]),
    ),
    "one step that two say": (
        named("step_0.pt", "step_9.pt", "step_10.pt", "step_100.pt", "step_100-b.pt"),
        Expected("iteration", {"step_0.pt": 0, "step_9.pt": 9, "step_10.pt": 10}, {}, ["step_100.pt", "step_100-b.pt"]),
    ),
    "a copy under another name": (
        [*named("step_9.pt", "step_10.pt"), record("step_10 (copy).pt", "step_10.pt")],
        Expected("iteration", {"step_9.pt": 9, "step_10.pt": 10}, {"step_10 (copy).pt": "step_10.pt"}),
    ),
}

UNKNOWN: Mapping[str, list[CheckpointRecord]] = {
    "names without numbers": named("alice.pt", "bob.pt", "carol.pt"),
    "best and last, of two networks": named("best.pt", "last.pt"),
    "dates and precisions": named("2024-05-01_12-30_resnet18_fp16.pt", "2024-05-02_09-15_resnet18_fp16.pt"),
    "dates behind a word": named("ckpt_2024-05-01_12-30.pt", "ckpt_2024-05-02_13-45.pt"),
    "dates without dashes": named("ckpt_20240501.pt", "ckpt_20240502T1345.pt"),
    "padded seeds": named("seed_001.pt", "seed_002.pt"),
    "padded losses": named("net_loss_0_031.pt", "net_loss_0_029.pt"),
    "accuracies": named("acc97.25.pt", "acc98.10.pt", "acc99.50.pt"),
    "losses": named("net_loss_0_31.pt", "net_loss_0_29.pt"),
    "top-1": named("model_top1-76.pt", "model_top1-77.pt"),
    "architectures": named("resnet18.pt", "resnet34.pt", "resnet50.pt"),
    "architectures with a dash": named("vgg-11.pt", "vgg-16.pt", "vgg-19.pt"),
    "folds": named("fold1.pt", "fold2.pt", "fold3.pt"),
    "seeds at two epochs": named("seed1_epoch1.pt", "seed1_epoch2.pt", "seed2_epoch1.pt", "seed2_epoch2.pt"),
    "one step for all": [record("a.pt", step=5), record("b.pt", step=5)],
    "two orders in the names": named("ckpt_1_model_9.pt", "ckpt_2_model_8.pt", "ckpt_3_model_7.pt"),
    "most without a number": named("epoch_1.pt", "alice.pt", "bob.pt"),
}


def read(own: Sequence[CheckpointRecord]) -> Expected:
    """The order of a run as a test writes it, and that every checkpoint has its place."""
    places = order_run(own).places
    assert set(places) == {each.checkpoint for each in own}
    series = {name: at.step for name, at in places.items() if at.step is not None}
    assert list(series.values()) == sorted(set(series.values()))
    units = {places[name].step_unit for name in series} or {ORDER}
    twins = {name: at.twin for name, at in places.items() if at.twin}
    beside = [name for name, at in places.items() if at.step_unit == BESIDE and not at.twin]
    return Expected("".join(units), series, twins, beside)


@pytest.mark.parametrize("name", RUNS)
def test_runs_as_trainers_leave_them(name: str) -> None:
    own, expected = RUNS[name]
    found = read(own)
    assert expected == found
    assert list(expected.series) == list(found.series)
    assert not any(NOT_KNOWN in doubt for doubt in order_run(own).doubts)


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_tells_no_order_has_no_steps_and_says_so(name: str) -> None:
    own = UNKNOWN[name]
    assert read(own) == Expected(ORDER, {})
    (doubt,) = order_run(own).doubts
    assert doubt.startswith(f"run: {NOT_KNOWN}, ")
    assert "--order" in doubt


@given(st.sampled_from(sorted([*RUNS, *UNKNOWN])), st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_how_checkpoints_are_found(name: str, chance: Random) -> None:
    own = RUNS[name][0] if name in RUNS else UNKNOWN[name]
    shuffled = list(own)
    chance.shuffle(shuffled)
    assert order_run(own) == order_run(shuffled)
    assert list(order_run(own).places) == list(order_run(shuffled).places)


NAMES = st.lists(
    st.tuples(
        st.sampled_from(["step", "epoch_", "ckpt-", "acc", "resnet", "best", "ema_", "mine-", ""]),
        st.integers(0, 12),
        st.sampled_from(["", "_lr0.1", "-val_loss=0.3", "/model"]),
        st.sampled_from("xyz"),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda each: each[:3],
)


@given(NAMES, st.randoms(use_true_random=False))
def test_any_run_has_one_order_with_one_unit(parts: list[tuple[str, int, str, str]], chance: Random) -> None:
    own = [record(f"{word}{number}{rest}.pt", tensors) for word, number, rest, tensors in parts]
    shuffled = list(own)
    chance.shuffle(shuffled)
    assert order_run(own) == order_run(shuffled)
    found = read(own)
    tensors = {each.checkpoint: each.tensors_sha256 for each in own}
    assert all(tensors[name] == tensors[twin] for name, twin in found.twins.items())
    assert not set(found.twins.values()) & set(found.twins)


@given(st.text(max_size=60))
def test_any_name_has_numbers_or_none(name: str) -> None:
    assert all(0 <= number.value < 10**15 for number in numbers_in(name))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("names without numbers", "neither notes nor names tell it (alice.pt, bob.pt and 1 more)"),
        ("seeds at two epochs", "2 of them say epoch 1"),
        ("one step for all", "all of them say iteration 5"),
        ("two orders in the names", "their names tell several (ckpt_1_model_9.pt, ckpt_2_model_8.pt and 1 more)"),
        ("most without a number", "1 of 3 say an epoch"),
    ],
)
def test_the_doubt_says_why(name: str, said: str) -> None:
    (doubt,) = order_run(UNKNOWN[name]).doubts
    assert said in doubt


def test_what_may_be_the_end_of_a_run_and_has_no_place_is_a_doubt() -> None:
    own = named("epoch_1.pt", "epoch_2.pt", "model_final.pt")
    assert order_run(own).doubts == (
        "run: nothing tells the place of model_final.pt among its checkpoints; --order name, mtime or FILE tells it",
    )
    assert order_run([*own[:2], record("model_best.pt")]).doubts == ()
    assert order_run([*own[:2], record("model_best.pt")]).remarks == (
        "model_best.pt stands beside the run, outside of its trajectory",
    )


def test_a_step_that_two_say_is_a_doubt() -> None:
    assert order_run(RUNS["one step that two say"][0]).doubts == (
        "run: 2 checkpoints say iteration 100: step_100.pt, step_100-b.pt",
    )


def test_notes_that_contradict_the_names_are_doubtful() -> None:
    own = [record("epoch_1.pt", epoch=9), record("epoch_2.pt", epoch=2)]
    assert order_run(own).doubts == ("run: epoch_2.pt comes after epoch_1.pt by name but before it by its own epoch",)


@pytest.mark.parametrize("name", RUNS)
def test_nothing_else_is_doubtful_about_sound_runs(name: str) -> None:
    expected = {
        "one file without a number": 1,
        "one step that two say": 1,
        "fairseq": 1,  # its last checkpoint is another network
        "Trainer, whose final weights may be of any step": 1,
    }
    assert len(order_run(RUNS[name][0]).doubts) == expected.get(name, 0)


def by(order_by: str, **places: int | None) -> list[CheckpointRecord]:
    return [replace(record(name.replace("_", ".")), order_by=order_by, order=at) for name, at in places.items()]


def test_the_lines_of_a_file_are_the_order() -> None:
    assert read(by("file", b_pt=7, best_pt=3, a_pt=5)) == Expected(ORDER, {"best.pt": 0, "a.pt": 1, "b.pt": 2})


def test_the_names_are_the_order_where_the_user_says_so() -> None:
    own = [replace(each, order_by="name") for each in named("vgg-9.pt", "vgg-10.pt", "best.pt")]
    assert read(own) == Expected(ORDER, {"vgg-9.pt": 0, "vgg-10.pt": 1}, {}, ["best.pt"])


def test_the_times_are_the_order_where_the_user_says_so() -> None:
    own = by("mtime", b_pt=10, last_pt=30, a_pt=20, swa_pt=40)
    assert read(own) == Expected(ORDER, {"b.pt": 0, "a.pt": 1, "last.pt": 2}, {}, ["swa.pt"])


def test_one_time_for_all_is_no_order() -> None:
    (doubt,) = order_run(by("mtime", a_pt=10, b_pt=10)).doubts
    assert "several of them were changed at one time" in doubt


def test_an_order_that_was_given_for_some_is_none() -> None:
    (doubt,) = order_run([*by("mtime", a_pt=10), *named("b.pt")]).doubts
    assert "--order was not the same for all of its dumps" in doubt
