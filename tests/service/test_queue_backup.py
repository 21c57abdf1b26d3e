"""A backup has the queue in it: restored elsewhere, waiting sweeps wait there, and nothing is there twice."""

from pathlib import Path
from zipfile import ZipFile

import pytest
from sweep_runs import small

from mnist_ablate.errors import SweepError
from mnist_ablate.ledger import backup
from mnist_ablate.service import queue_backup
from mnist_ablate.service.claims import Claims, Ending, settle
from mnist_ablate.service.limits import Limits
from mnist_ablate.service.queue import Queue


def filled(url: str) -> Queue:
    """One that is done, one that runs, one that is paused, one that waits."""
    queue = Queue(url)
    names = ("done", "running", "paused", "waiting")
    ids = [queue.submit(small(name=name), owner="ana", planned=6, where="127.0.0.1")[0].id for name in names]
    claims = Claims(queue, "one")
    for _ in range(2):
        found = claims.take(Limits())
        assert found
        if found[1].name == "done":
            settle(queue, found[0], Ending("done", 0, verdicts={"tanh-hurts": "supported"}))
    queue.pause(ids[2], by="op")
    return queue


def test_the_queue_goes_through_a_backup_and_what_ran_waits(url: str, tmp_path: Path) -> None:
    queue = filled(url)
    file, elsewhere = tmp_path / "a.zip", f"sqlite:///{tmp_path / 'other' / 'ledger.db'}"
    content, count = queue_backup.dump(url)
    backup.export(url, [], file, content)
    backup.restore(elsewhere, file)
    assert queue_backup.load(elsewhere, backup.queue_in(file)) == (count, 4)
    assert queue_backup.load(elsewhere, backup.queue_in(file)) == (count, 0)
    other = Queue(elsewhere)
    states = {each.name: each.state for each in other.list()}
    assert states == {"done": "done", "running": "waiting", "paused": "paused", "waiting": "waiting"}
    for mine, theirs in zip(queue.list(), other.list(), strict=True):
        assert (mine.id, mine.owner, mine.verdicts, mine.planned) == (theirs.id, theirs.owner, theirs.verdicts, 6)
        assert [each.data for each in queue.events(mine.id)] == [each.data for each in other.events(mine.id)]
        full = other.get(mine.id)
        assert full
        assert full.text.startswith("question: Does tanh hurt?")
    assert [each.what for each in other.audit()] == [each.what for each in queue.audit()]
    other.submit(small(name="more"), owner="bo")
    assert other.events_since(0)[-1].number == other.last_event()
    assert Claims(other, "two").take(Limits())
    other.close()
    queue.close()


def test_a_queue_that_was_altered_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    filled(url).close()
    file, changed = tmp_path / "a.zip", tmp_path / "b.zip"
    backup.export(url, [], file, queue_backup.dump(url)[0])
    with ZipFile(file) as old, ZipFile(changed, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b'"ana"', b'"bob"'))
    with pytest.raises(SweepError, match="the queue was altered: it was not restored"):
        backup.queue_in(changed)
    with pytest.raises(SweepError, match="the queue in the backup cannot be read"):
        queue_backup.load(url, b"[]\n")


def test_a_ledger_without_a_queue_has_none_in_its_backup(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    assert queue_backup.dump(url) == (b"", 0)
    assert not (tmp_path / "queue.db").exists()
    (tmp_path / "queue.db").touch()  # whoever made it was killed before its tables were there
    assert queue_backup.dump(url) == (b"", 0)
