"""Work on many cores: in order, bounded, and with a last word when a worker dies."""

import json
import os
from itertools import count

import pytest

from strhub.data.jobs import AHEAD, check_settings, ordered_map


def test_results_come_in_order_and_inputs_are_taken_as_they_are_due():
    taken = []

    def numbers():
        for number in count():
            taken.append(number)
            yield -number

    with ordered_map(abs, 2) as work:
        results = work(numbers())
        assert [next(results) for _ in range(100)] == list(range(100))
        assert len(taken) <= 100 + 2 * AHEAD


def test_an_error_of_a_worker_arrives_as_it_was():
    with pytest.raises(ValueError, match='invalid literal'), ordered_map(int, 2) as work:
        list(work(['1', 'x']))


def test_a_worker_that_is_killed_ends_in_a_sentence():
    with pytest.raises(OSError, match=r'ended from outside.*use fewer'), ordered_map(os._exit, 2) as work:
        list(work([1]))


def test_one_job_needs_no_process():
    with ordered_map(lambda number: (number, os.getpid()), 1) as work:  # which could not travel
        assert list(work([3])) == [(3, os.getpid())]


@pytest.mark.parametrize('content', ['{"seed": 1}', '{"seed": 2, "size": null}', 'torn', None])
def test_work_begun_otherwise_is_not_gone_on_with(tmp_path, content):
    note = tmp_path / 'note.json'
    if content is not None:
        note.write_text(content)
    with pytest.raises(ValueError, match=r'interrupted run with another .*remove that folder'):
        check_settings(note, {'seed': 1, 'size': None})


def test_work_begun_with_the_same_settings_is(tmp_path):
    settings = {'seed': 1, 'size': None, 'name': 'Wörter'}
    (tmp_path / 'note.json').write_text(json.dumps({**settings, 'more': 3}))
    check_settings(tmp_path / 'note.json', settings)
