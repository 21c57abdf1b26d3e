"""Plans of the small sweep, outcomes for their trials, and ledgers that hold them."""

from pathlib import Path

import fake_trainer
from sweep_runs import small

from mnist_ablate.ledger.ledger import Ledger, Record
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import Plan, PlannedTrial, make_plan
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Outcome, Trial

DATA = "d1" * 32


def plan(**changes: object) -> Plan:
    return make_plan(small(**changes), DATA)


def ended(trial: Trial, status: str = "complete", **changes: object) -> Outcome:
    """What the fake trainer would say."""
    epochs = {"complete": trial.settings["epochs"], "diverged": 1}.get(status, 0)
    content = {
        "trial_id": trial.id,
        "status": status,
        "metrics": {"complete": fake_trainer.metrics(trial), "diverged": fake_trainer.CHANCE}.get(status, {}),
        "epochs": [fake_trainer.epoch(trial, number + 1) for number in range(epochs)],
        "reason": "" if epochs else "RuntimeError: 名前",
        "started_ms": 1_700_000_000_000,
        **changes,
    }
    return Outcome.model_validate(content)


def outcome(planned: PlannedTrial, status: str = "complete", **changes: object) -> Outcome:
    return ended(planned.trial, status, **changes)


def begun(url: str, of: Plan, *, fresh: bool = False) -> Record:
    return Ledger(url).begin(of, fresh=fresh)


def recorded(home: Path, *sweeps: Sweep) -> Settings:
    """Every trial of these sweeps of one name, each begun anew after the one before."""
    settings = Settings(home=home)
    for sweep in sweeps:
        plan = make_plan(sweep, DATA)
        record = begun(settings.ledger_url, plan, fresh=True)
        for each in (*plan.verdict_trials(), *plan.control_trials()):
            record.add(each, outcome(each))
    return settings
