"""Several processes judge a model as one does, to the last digit, however uneven their shares are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_fit import ROOT, small, words  # noqa: F401 (fixtures)

from strhub.engine.fit import main
from strhub.metrics import Score

SCRIPT = """
import json, sys
from pathlib import Path
import lightning.pytorch as pl
from omegaconf import OmegaConf
from strhub.engine import fit
from strhub.engine.configure import compose
settings = OmegaConf.to_container(compose(sys.argv[2:]), resolve=True)
pl.seed_everything(0, verbose=False)
trainer = fit.build_trainer(settings, Path(sys.argv[1]), [])
(result,) = trainer.validate(fit.build_system(settings), datamodule=fit.build_data(settings), verbose=False)
if trainer.is_global_zero:
    print(json.dumps({name: value.hex() for name, value in result.items()}))
"""


def validate(folder: Path, command: list[str]) -> dict[str, str]:
    script = folder / 'validate.py'
    script.write_text(SCRIPT)
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(
        [sys.executable, str(script), str(folder), *command],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_two_processes_judge_as_one_does(small: list[str], words: Path, tmp_path: Path) -> None:  # noqa: F811
    """An odd number of words in an odd number of batches, and one word, which leaves a process without any."""
    main([*small, 'model.lr=0.2', 'trainer.max_epochs=60', 'trainer.val_check_interval=100', 'hydra.run.dir=run'])
    for count in (11, 1):
        some = tmp_path / f'val{count}'
        some.mkdir()
        lines = (words / 'labels.tsv').read_text().splitlines()[:count]
        for line in lines:
            shutil.copy(words / line.partition('\t')[0], some)
        (some / 'labels.tsv').write_text('\n'.join(lines))
        command = [*small, 'pretrained=run/checkpoints/last.ckpt', f'data.val_dir={some}', 'model.batch_size=3']
        one = validate(tmp_path, command)
        two = validate(tmp_path, [*command, 'trainer.devices=2', 'trainer.strategy=ddp'])
        for name in ('val_accuracy', 'val_NED'):
            assert one[name] == two[name], name
    assert 0 < float.fromhex(one['val_NED']) <= 100


@given(
    st.lists(st.tuples(st.text('ab', max_size=9), st.text('ab', min_size=1, max_size=9), st.floats(0, 1)), min_size=1),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_scores_are_the_same_in_any_order_over_any_shares(rows, shares, random) -> None:  # type: ignore[no-untyped-def]
    whole = Score.of(*map(list, zip(*rows, strict=True)))
    random.shuffle(rows)
    parts = [rows[rank::shares] for rank in range(shares)]
    total = sum((Score.of(*map(list, zip(*part, strict=True))) for part in parts if part), Score())
    assert total == whole
    assert Score.from_tensor(total.to_tensor()) == whole
