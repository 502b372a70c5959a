"""Pseudo-labels of all training images: when they are renewed, what they equal, and who gets none."""

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import Dataset
from torch import nn

from cvm_monai.data.store import PseudoLabelStore
from cvm_monai.engines import LowestMetric, PseudoLabelRenewal, RenewalPlan
from cvm_monai.engines.selection import SelectionEvents
from cvm_monai.supervision.cvm import ContrastVariational
from cvm_monai.supervision.factory import build_supervision
from cvm_monai.variational import segment
from cvm_monai.variational.grid import on_full_grid

SHAPE = (12, 14)
SETTINGS = {"eta": 0.5, "lam": 3.0, "iterations": 20, "tolerance": 1e-3}


class ToyNetwork(nn.Module):
    """Features are the image's channels, batch-normalised; `seen` notes the mode of each pass."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.seen = []

    def features(self, x):
        self.seen.append((self.training, torch.is_grad_enabled()))
        maps = self.norm(x)
        return maps[:, :2], maps


def item(case_id: str, *, inside=((6, 6), (5, 7)), outside=((0, 0),), mask=None) -> dict:
    """A bright disc on a dark ground whose place depends on the case."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    disc = (rows - 6) ** 2 + (columns - 6) ** 2 < 14
    rng = np.random.default_rng(len(case_id))
    image = np.stack([0.2 + disc, 1.2 - disc, 0.1 * rng.random(SHAPE)]).astype(np.float32)
    return {
        "case_id": case_id,
        "image": torch.from_numpy(image),
        "mask": torch.full((1, *SHAPE), 255, dtype=torch.uint8)
        if mask is None
        else torch.from_numpy(disc * mask)[None],
        "in_points": np.array(inside, dtype=np.int64).reshape(-1, 2),
        "out_points": np.array(outside, dtype=np.int64).reshape(-1, 2),
    }


def renewal_of(folder, items, *, supervision=None, **options) -> PseudoLabelRenewal:
    return PseudoLabelRenewal(
        network=ToyNetwork(),
        supervision=supervision or ContrastVariational(**SETTINGS),
        dataset=Dataset(items),
        store=PseudoLabelStore(folder),
        device="cpu",
        **{"workers": 1, "progress": False} | options,
    )


def test_each_pseudo_label_is_the_variational_segmentation_of_the_networks_features(tmp_path):
    items = [item("a"), item("bb", inside=((6, 6),), outside=((0, 0), (11, 13)))]
    renewal = renewal_of(tmp_path, items)
    report = renewal.renew(epoch=3)
    assert (report.epoch, report.labelled, report.skipped) == (3, 2, {})
    network, steps = renewal.network.eval(), []
    for one in items:
        with torch.no_grad():
            features = network.features(one["image"][None])[1][0]
        expected = segment(features, one["in_points"], one["out_points"], **SETTINGS)
        steps.append(np.mean(expected.solution.iterations.tolist()))
        found = renewal.store.get(one["case_id"])
        np.testing.assert_allclose(found, expected.u, atol=1e-5)
        assert found[6, 6] > 0.5 > found[0, 0]
    assert report.iterations == np.mean(steps)


def test_images_without_both_classes_are_skipped_and_counted_by_reason(tmp_path):
    constant = item("constant") | {"image": torch.ones(3, *SHAPE)}
    broken = item("broken")
    broken["image"] = torch.full_like(broken["image"], torch.inf)
    items = [
        item("a"),
        item("inside", outside=()),
        item("outside", inside=()),
        item("none", inside=(), outside=()),
        constant,
        broken,
    ]
    renewal = renewal_of(tmp_path, items)
    report = renewal.renew(epoch=1)
    assert report.labelled == 1
    assert report.skipped == {
        "without points of both classes": 3,
        "the map is constant, there is nothing to segment": 1,
        "the network's features hold NaN or infinity": 1,
    }
    assert renewal.store.get("a") is not None
    assert all(renewal.store.get(one["case_id"]) is None for one in items[1:])


def test_an_image_that_loses_its_pseudo_label_does_not_keep_the_old_one(tmp_path):
    renewal = renewal_of(tmp_path, [item("a")])
    renewal.renew(epoch=1)
    renewal.dataset = Dataset([item("a", inside=())])
    renewal.renew(epoch=2)
    assert renewal.store.version == 2
    assert renewal.store.get("a") is None


@pytest.mark.parametrize("training", [True, False])
def test_the_network_runs_in_evaluation_mode_and_gets_its_own_back(tmp_path, training):
    renewal = renewal_of(tmp_path, [item("a"), item("b", inside=())])
    renewal.network.train(training)
    running = renewal.network.norm.running_mean.clone()
    renewal.renew(epoch=1)
    assert renewal.network.seen == [(False, False)] * 2
    assert renewal.network.training is training
    assert renewal.network.norm.training is training
    torch.testing.assert_close(renewal.network.norm.running_mean, running)


def test_a_solver_that_fails_restores_the_mode_and_leaves_the_old_renewal(tmp_path):
    renewal = renewal_of(tmp_path, [item("a")])
    renewal.renew(epoch=1)
    renewal.network.train()
    renewal.supervision._solve["lam"] = -1.0
    with pytest.raises(ValueError, match="lam must be a finite number greater than 0"):
        renewal.renew(epoch=2)
    assert renewal.network.training
    assert renewal.store.version == 1


def test_two_workers_give_what_one_gives(tmp_path):
    items = [item("a" * n, mask=1) for n in range(1, 12)] + [item("z", inside=())]
    one, two = renewal_of(tmp_path / "1", items), renewal_of(tmp_path / "2", items, workers=2)
    reports = one.renew(epoch=1), two.renew(epoch=1)
    assert reports[0].labelled == reports[1].labelled == 11
    assert reports[0].skipped == reports[1].skipped
    assert reports[0].dice == reports[1].dice
    for entry in items[:-1]:
        np.testing.assert_array_equal(one.store.get(entry["case_id"]), two.store.get(entry["case_id"]))


def test_more_images_than_one_chunk_keep_their_order(tmp_path):
    items = [item("a" * n, inside=((6, 6),) if n % 3 else ()) for n in range(1, 19)]  # a chunk holds 8
    renewal = renewal_of(tmp_path, items)
    assert renewal.renew(epoch=1).labelled == 12
    for n in (1, 8, 10, 17):
        single = renewal_of(tmp_path / str(n), [items[n - 1]])
        single.renew(epoch=1)
        np.testing.assert_array_equal(renewal.store.get("a" * n), single.store.get("a" * n))


def test_dice_is_against_the_masks_there_are(tmp_path):
    items = [item("a", mask=1), item("b")]
    renewal = renewal_of(tmp_path, items)
    report = renewal.renew(epoch=1)
    u, truth = renewal.store.get("a") > 0.5, items[0]["mask"][0].numpy() == 1
    assert report.dice == pytest.approx(2 * (u & truth).sum() / (u.sum() + truth.sum()))
    assert renewal_of(tmp_path / "n", items[1:]).renew(epoch=1).dice is None


def test_the_first_images_are_kept_for_figures(tmp_path):
    items = [item("a", inside=()), item("b"), item("c")]
    renewal = renewal_of(tmp_path, items, previews=2)
    first, second = renewal.renew(epoch=1).previews
    assert (first.record["case_id"], second.item["case_id"]) == ("a", "b")
    assert first.u is None
    np.testing.assert_array_equal(second.u, renewal.store.get("b"))
    image = items[1]["image"]
    expected = torch.softmax(renewal.network.norm.eval()(image[None])[0, :2], dim=0)[1]
    np.testing.assert_allclose(second.probability, expected.detach(), atol=1e-5)


def scripted_validation(renewal, scores) -> list[tuple[int, int]]:
    """(epoch, renewals so far) at each RENEWED."""
    engine, seen = Engine(lambda *_: None), []
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(score=e.score))
    LowestMetric(metric="score").attach(engine)
    renewal.attach(engine)
    engine.add_event_handler(
        SelectionEvents.RENEWED, lambda e: seen.append((e.state.renewal.epoch, renewal.store.version))
    )
    for epoch, engine.score in enumerate(scores, start=1):
        engine.state.max_epochs, engine.state.epoch = epoch, epoch - 1
        engine.run([0], max_epochs=epoch)
    return seen


def test_renewals_happen_exactly_at_the_new_lows(tmp_path):
    renewal = renewal_of(tmp_path, [item("a")])
    assert scripted_validation(renewal, [3.0, 3.0, 2.0, 2.5, float("nan"), 1.0]) == [(1, 1), (3, 2), (6, 3)]


SCORES = [3.0, 3.0, 2.0, 2.5, 2.5, 1.0, 2.0]


@pytest.mark.parametrize(
    ("rule", "epochs"),
    [
        ({"first": 3}, [3, 6]),  # the low of epoch 1 comes too early
        ({"every": 2}, [1, 2, 3, 4, 6]),  # 1 and 3 are lows, 6 is both and renews once
        ({"first": 2, "every": 3}, [2, 3, 5, 6]),
        ({"first": 8, "every": 1}, []),
        ({"below": 2.5, "metric": "score"}, [3, 6]),  # the low of epoch 1 is no good network
        ({"below": 2.5, "metric": "score", "every": 1}, [3, 6, 7]),  # 2.5 is not below 2.5
    ],
)
def test_renewals_can_wait_and_can_come_without_a_new_low(tmp_path, rule, epochs):
    renewal = renewal_of(tmp_path, [item("a")], **rule)
    assert [epoch for epoch, _ in scripted_validation(renewal, SCORES)] == epochs


PAID = {"share": 0.5, "crop_size": 64, "validated": 0.0}
"""12 x 14 px are smaller than a crop, so that an epoch costs 3 passes and a renewal 1.3: k = 1.3 / 3."""


@pytest.mark.parametrize(
    ("share", "epochs"),
    [
        (0.5, [1, 3, 6]),  # k = 0.43: every low is paid for
        (0.12, [2, 5]),  # k = 3.18: due from 1.6 and 4.8; the lows of epochs 1 and 3 are made up for
        (0.05, [5]),  # k = 8.2: due from 4.1 and 12.4
    ],
)
def test_a_low_that_comes_too_soon_is_made_up_for_when_the_share_allows_it(tmp_path, share, epochs):
    renewal = renewal_of(tmp_path, [item("a")], plan=RenewalPlan(**PAID | {"share": share}))
    assert [epoch for epoch, _ in scripted_validation(renewal, SCORES)] == epochs


def test_a_resumed_training_still_owes_the_low_that_waits(tmp_path):
    plan = RenewalPlan(**PAID | {"share": 0.12})
    first = renewal_of(tmp_path, [item("a")], plan=plan)
    assert scripted_validation(first, [3.0]) == []
    second = renewal_of(tmp_path, [item("a")], plan=plan)
    second.load_state_dict(first.state_dict())
    assert [epoch for epoch, _ in scripted_validation(second, [3.0, 3.0])] == [2]
    assert second.state_dict() == {"renewed": 2, "done": 1, "pending": False}
    second.load_state_dict({"renewed": 4})  # of a version without a plan
    assert (second.renewed, second.done, second.pending) == (4, 0, False)


def test_the_plan_counts_pixels_and_the_estimate_follows_it():
    plan = RenewalPlan(share=0.12, crop_size=128, validated=0.25)
    assert plan.epochs_between([128**2]) == pytest.approx(1.3 / 3.25 * 0.88 / 0.12)
    assert plan.epochs_between([1024**2]) == pytest.approx(1.3 / (3 / 64 + 0.25) * 0.88 / 0.12)
    assert [plan.most([side**2], epochs=40) for side in (128, 512, 1024)] == [14, 2, 1]
    assert RenewalPlan(crop_size=128).most([1024**2], epochs=40) == 40
    with pytest.raises(ValueError, match="share must be a number between 0 and 1, or None, got 1"):
        RenewalPlan(share=1)


def test_u_on_a_coarser_grid_is_that_of_averaged_features_and_of_lam_times_the_spacing(tmp_path):
    one = item("a", mask=1)
    renewal = renewal_of(tmp_path, [one], spacing=2)
    report = renewal.renew(epoch=1)
    with torch.no_grad():
        features = renewal.network.eval().features(one["image"][None])[1]
    averaged = torch.nn.functional.avg_pool2d(features, 2)[0]
    expected = segment(averaged, one["in_points"] // 2, one["out_points"] // 2, **SETTINGS | {"lam": 6.0})
    found = renewal.store.get("a")
    assert found.shape == (6, 7)
    np.testing.assert_allclose(found, expected.u, atol=1e-5)
    u, truth = on_full_grid(found, SHAPE) > 0.5, one["mask"][0].numpy() == 1
    assert report.dice == pytest.approx(2 * (u & truth).sum() / (u.sum() + truth.sum()))
    assert report.previews[0].u.shape == SHAPE


def test_a_renewal_that_changes_nothing_is_not_written_again(tmp_path):
    renewal = renewal_of(tmp_path, [item("a"), item("bb")])
    first = renewal.renew(epoch=1)
    files = sorted((tmp_path / "0001").glob("*.npy"))
    renewal.dataset = Dataset([item("a"), item("bb") | {"image": item("bb")["image"].roll(2, dims=2)}])
    second = renewal.renew(epoch=2)
    assert (first.unchanged, second.unchanged) == (0, 1)
    assert [path.stat().st_nlink for path in files] == [2, 1]
    size = files[0].stat().st_size
    assert (first.stored_mib, second.stored_mib) == (2 * size / 2**20, 3 * size / 2**20)


def test_a_rule_of_renewal_that_is_no_whole_number_is_refused(tmp_path):
    with pytest.raises(ValueError, match="every must be a whole number of at least 0, got -1"):
        renewal_of(tmp_path, [], every=-1)
    with pytest.raises(ValueError, match=r"first must be a whole number of at least 0, got 2\.5"):
        renewal_of(tmp_path, [], first=2.5)
    with pytest.raises(ValueError, match="below must be a number greater than 0, or None, got 0"):
        renewal_of(tmp_path, [], below=0)


class OnOwnFeatures(ContrastVariational):
    """As a method with a frozen extractor: its features are the image's reversed channels, and it renews once."""

    renews_once = True

    def own_features(self, image, features):
        assert image.shape == (1, 3, *SHAPE)
        return image.flip(1)


def test_a_method_may_bring_features_of_its_own_and_then_renew_once(tmp_path):
    one = item("a")
    renewal = renewal_of(tmp_path, [one], supervision=OnOwnFeatures(**SETTINGS))
    assert scripted_validation(renewal, [3.0, 2.0, 1.0]) == [(1, 1)]
    expected = segment(one["image"].flip(0), one["in_points"], one["out_points"], **SETTINGS)
    np.testing.assert_allclose(renewal.store.get("a"), expected.u, atol=1e-5)


class LogitsAlone(ToyNetwork):
    """A network whose features would take too much memory."""

    def features(self, x):
        raise AssertionError("the features were asked for")

    def forward(self, x):
        return super().features(x)[0]


def test_a_method_that_reads_no_features_of_the_network_does_not_compute_them(tmp_path):
    methods = OnOwnFeatures(**SETTINGS), OnOwnFeatures(**SETTINGS)
    renewals = [renewal_of(tmp_path / str(i), [item("a")], supervision=method) for i, method in enumerate(methods)]
    renewals[1].network, methods[1].reads_features = LogitsAlone(), False
    for renewal in renewals:
        assert scripted_validation(renewal, [1.0]) == [(1, 1)]
    np.testing.assert_array_equal(*(renewal.store.get("a") for renewal in renewals))


class OnGrid(OnOwnFeatures):
    """Its features are the image's channels, resampled to the grid that is asked for."""

    reads_features = False

    def own_features(self, image, features):
        return torch.nn.functional.adaptive_avg_pool2d(image, features.shape[-2:])


def test_the_mean_of_a_data_set_is_taken_on_the_grid_of_u_and_without_features_that_are_not_read(tmp_path):
    items = [item("a"), item("bb")]
    method = OnGrid(**SETTINGS, centre="dataset")
    renewal = renewal_of(tmp_path, items, supervision=method, spacing=2)
    renewal.network, asked = LogitsAlone(), []
    own = method.own_features
    method.own_features = lambda image, features: (asked.append(features.shape[-2:]), own(image, features))[1]
    renewal.renew(epoch=1)
    assert asked == [(6, 7)] * 4  # once for the mean, once for u
    expected = torch.stack([one["image"] for one in items]).mean(dim=(0, 2, 3))
    torch.testing.assert_close(method.mean_features, expected)


def test_a_method_without_pseudo_labels_is_never_asked(tmp_path):
    renewal = renewal_of(tmp_path, [item("a")], supervision=build_supervision("partial_ce"))
    assert scripted_validation(renewal, [3.0, 2.0]) == []
    assert renewal.network.seen == []


def test_pseudo_labels_of_an_earlier_training_are_forgotten(tmp_path):
    PseudoLabelStore(tmp_path).publish({"a": np.ones(SHAPE)})
    renewal = renewal_of(tmp_path, [item("a")])
    scripted_validation(renewal, [])
    assert renewal.store.get("a") is None
