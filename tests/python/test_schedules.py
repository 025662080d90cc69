"""Schedules, seen through History.lr and the parameters that a fit ends with."""

import numpy as np
import pytest
import reference
from cases import TASKS, make_problem
from helpers import assert_close, same_bits
from nets import library_net

import chainrule as cr

LR, EPOCHS, BATCH, ROWS = 0.2, 12, 10, 37
STEPS = 4

# name: (the library's schedule, the reference's rates, PyTorch's scheduler, stepped after every "epoch" or "step")
SCHEDULES = {
    "constant": (cr.ConstantRate(), reference.constant, lambda s, sgd: s.ConstantLR(sgd, factor=1.0), "epoch"),
    "step": (
        cr.StepDecay(step_size=3, gamma=0.4),
        lambda *shape: reference.step_decay(*shape, step_size=3, gamma=0.4),
        lambda s, sgd: s.StepLR(sgd, step_size=3, gamma=0.4),
        "epoch",
    ),
    "exponential": (
        cr.ExponentialDecay(gamma=0.9),
        lambda *shape: reference.exponential_decay(*shape, gamma=0.9),
        lambda s, sgd: s.ExponentialLR(sgd, gamma=0.9),
        "epoch",
    ),
    "cosine": (
        cr.CosineDecay(eta_min=0.01),
        lambda *shape: reference.cosine_decay(*shape, eta_min=0.01),
        lambda s, sgd: s.CosineAnnealingLR(sgd, T_max=EPOCHS, eta_min=0.01),
        "epoch",
    ),
    "warmup": (
        cr.Warmup(epochs=3, start_factor=0.2),
        lambda *shape: reference.warmup(*shape, warm_epochs=3, start_factor=0.2),
        lambda s, sgd: s.LinearLR(sgd, start_factor=0.2, end_factor=1.0, total_iters=3 * STEPS),
        "step",
    ),
    "one_cycle": (
        cr.OneCycle(),
        reference.one_cycle,
        lambda s, sgd: s.OneCycleLR(sgd, max_lr=LR, total_steps=EPOCHS * STEPS, cycle_momentum=False),
        "step",
    ),
    "one_cycle early": (
        cr.OneCycle(pct_start=0.1, div_factor=5.0, final_div_factor=50.0),
        lambda *shape: reference.one_cycle(*shape, pct_start=0.1, div_factor=5.0, final_div_factor=50.0),
        lambda s, sgd: s.OneCycleLR(
            sgd,
            max_lr=LR,
            total_steps=EPOCHS * STEPS,
            cycle_momentum=False,
            pct_start=0.1,
            div_factor=5.0,
            final_div_factor=50.0,
        ),
        "step",
    ),
}
# The schedules whose name means these settings.
DEFAULTS = {
    "constant": cr.ConstantRate(),
    "step": cr.StepDecay(step_size=10, gamma=0.1),
    "exponential": cr.ExponentialDecay(gamma=0.95),
    "cosine": cr.CosineDecay(eta_min=0.0),
    "one_cycle": cr.OneCycle(pct_start=0.3, div_factor=25.0, final_div_factor=1e4),
    "warmup": cr.Warmup(epochs=5, start_factor=0.1),
    "plateau": cr.Plateau(factor=0.1, patience=10, threshold=1e-4, min_lr=0.0),
}


def problem_of_four_batches():
    return make_problem(TASKS[0], "tanh", (5, 7), ROWS, weighted=False)


def fit(mlp, problem, schedule, optimizer=None, **settings):
    return mlp.fit(
        problem.X,
        problem.y,
        epochs=settings.pop("epochs", EPOCHS),
        batch_size=settings.pop("batch_size", BATCH),
        optimizer=optimizer or cr.SGD(lr=LR, momentum=0.5),
        schedule=schedule,
        shuffle=False,
        **settings,
    )


def assert_history_shows(history, rates):
    """One rate an epoch: that of the epoch, or of one of its steps where it changes from step to step."""
    assert len(history.lr) == len(rates)
    for lr, epoch_rates in zip(history.lr, rates, strict=True):
        assert np.abs(np.asarray(epoch_rates) - lr).min() <= 1e-12 * LR


@pytest.mark.parametrize("name", SCHEDULES)
def test_fit_equals_the_reference(name):
    schedule, rates_of, _, _ = SCHEDULES[name]
    problem = problem_of_four_batches()
    mlp = library_net(problem.net)
    history = fit(mlp, problem, schedule)
    rates = rates_of(LR, EPOCHS, STEPS)
    losses = reference.train(problem.net, problem.X, problem.Y, reference.SGD(momentum=0.5), rates, BATCH)
    assert_history_shows(history, rates)
    assert_close(history.loss, losses, 1e-10)
    assert_close(mlp.parameters, problem.net.parameters, 1e-10)


@pytest.mark.parametrize("name", SCHEDULES)
def test_fit_equals_torch(torch_reference, name):
    schedule, _, torch_schedule, when = SCHEDULES[name]
    problem = problem_of_four_batches()
    mlp, peer = library_net(problem.net), torch_reference.MLP(problem.net)
    history = fit(mlp, problem, schedule)
    torch = torch_reference.torch
    sgd = torch.optim.SGD(peer.leaves, lr=LR, momentum=0.5)
    scheduler = torch_schedule(torch.optim.lr_scheduler, sgd)
    rates = []
    for epoch in range(EPOCHS):
        rates.append([])
        for start in range(0, ROWS, BATCH):
            rates[-1].append(sgd.param_groups[0]["lr"])
            peer.train_step(problem.X[start : start + BATCH], problem.y[start : start + BATCH], sgd)
            if when == "step" and (epoch, start + BATCH >= ROWS) != (EPOCHS - 1, True):
                scheduler.step()
        if when == "epoch":
            scheduler.step()
    assert_history_shows(history, rates)
    assert_close(mlp.parameters, peer.parameters, 1e-10)


@pytest.mark.parametrize("validated", [True, False], ids=["validation loss", "training loss"])
def test_plateau_equals_torch(torch_reference, validated):
    problem, other = problem_of_four_batches(), make_problem(TASKS[0], "tanh", (5, 7), 11, weighted=False)
    mlp, peer = library_net(problem.net), torch_reference.MLP(problem.net)
    lr, epochs = 0.5, 30
    history = fit(
        mlp,
        problem,
        cr.Plateau(factor=0.5, patience=1, threshold=1e-2, min_lr=0.01),
        cr.SGD(lr=lr, momentum=0.9),
        epochs=epochs,
        batch_size=ROWS,
        validation=(other.X, other.y) if validated else None,
    )
    torch = torch_reference.torch
    sgd = torch.optim.SGD(peer.leaves, lr=lr, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(sgd, factor=0.5, patience=1, threshold=1e-2, min_lr=0.01)
    rates = []
    for _ in range(epochs):
        rates.append(sgd.param_groups[0]["lr"])
        loss = peer.train_step(problem.X, problem.y, sgd)
        if validated:
            peer.forward(other.X)
            loss = peer.loss_of(other.y).item()
        scheduler.step(loss)
    assert len(set(rates)) >= 3, "the problem must reach plateaus for this test to say anything"
    assert_close(history.lr, rates, 1e-12)
    assert_close(mlp.parameters, peer.parameters, 1e-10)


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_name_means_the_default_settings(name):
    problem = problem_of_four_batches()
    by_name, by_object = library_net(problem.net), library_net(problem.net)
    history = fit(by_name, problem, name)
    assert history.lr == fit(by_object, problem, DEFAULTS[name]).lr
    assert same_bits(by_name.parameters, by_object.parameters)


def test_no_schedule_is_a_constant_rate():
    problem = problem_of_four_batches()
    without, constant = library_net(problem.net), library_net(problem.net)
    assert fit(without, problem, None).lr == fit(constant, problem, "constant").lr == [LR] * EPOCHS
    assert same_bits(without.parameters, constant.parameters)


def test_warmup_reaches_the_rate_and_stays():
    rates = fit(library_net(problem_of_four_batches().net), problem_of_four_batches(), cr.Warmup(epochs=3)).lr
    assert rates == sorted(rates) and rates[0] < rates[2] <= LR
    assert rates[3:] == pytest.approx([LR] * (EPOCHS - 3), rel=1e-12)


def test_a_schedule_may_be_used_again():
    """Schedules hold settings, no state."""
    problem, schedule = problem_of_four_batches(), cr.Plateau(factor=0.5, patience=0, threshold=0.5)
    first, second = library_net(problem.net), library_net(problem.net)
    rates = fit(first, problem, schedule).lr
    assert len(set(rates)) > 1
    assert fit(second, problem, schedule).lr == rates
    assert same_bits(first.parameters, second.parameters)


def test_one_epoch_of_one_batch():
    problem = problem_of_four_batches()
    for name in DEFAULTS:
        mlp = library_net(problem.net)
        history = fit(mlp, problem, name, epochs=1, batch_size=ROWS)
        assert len(history.lr) == 1 and 0 < history.lr[0] <= LR
        assert np.all(np.isfinite(mlp.parameters))


def test_attributes():
    schedule = cr.StepDecay(step_size=3, gamma=0.4)
    assert (schedule.step_size, schedule.gamma) == (3, 0.4)
    assert cr.ExponentialDecay(gamma=0.9).gamma == 0.9
    assert cr.CosineDecay(eta_min=0.01).eta_min == 0.01
    warmup = cr.Warmup(epochs=3, start_factor=0.2)
    assert (warmup.epochs, warmup.start_factor) == (3, 0.2)
    plateau = cr.Plateau(factor=0.5, patience=1, threshold=1e-2, min_lr=0.1)
    assert (plateau.factor, plateau.patience, plateau.threshold, plateau.min_lr) == (0.5, 1, 1e-2, 0.1)
    cycle = cr.OneCycle(pct_start=0.2, div_factor=5.0, final_div_factor=50.0)
    assert (cycle.pct_start, cycle.div_factor, cycle.final_div_factor) == (0.2, 5.0, 50.0)


@pytest.mark.parametrize(
    ("build", "argument"),
    [
        (lambda: cr.StepDecay(step_size=0), "step_size"),
        (lambda: cr.StepDecay(step_size=-1), "step_size"),
        (lambda: cr.StepDecay(gamma=-0.1), "gamma"),
        (lambda: cr.ExponentialDecay(gamma=float("nan")), "gamma"),
        (lambda: cr.CosineDecay(eta_min=-1.0), "eta_min"),
        (lambda: cr.Warmup(epochs=-1), "epochs"),
        (lambda: cr.Warmup(start_factor=-0.5), "start_factor"),
        (lambda: cr.Warmup(start_factor=1.5), "start_factor"),
        (lambda: cr.Plateau(factor=1.0), "factor"),
        (lambda: cr.Plateau(factor=-0.1), "factor"),
        (lambda: cr.Plateau(patience=-1), "patience"),
        (lambda: cr.Plateau(min_lr=-1.0), "min_lr"),
        (lambda: cr.OneCycle(pct_start=1.5), "pct_start"),
        (lambda: cr.OneCycle(pct_start=-0.1), "pct_start"),
        (lambda: cr.OneCycle(div_factor=0.0), "div_factor"),
        (lambda: cr.OneCycle(final_div_factor=-1.0), "final_div_factor"),
    ],
)
def test_settings_out_of_range(build, argument):
    with pytest.raises(ValueError, match=argument):
        build()
