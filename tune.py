#!/usr/bin/env python
"""Finds hyper-parameters: `./tune.py --help`."""

from strhub.__main__ import run

if __name__ == '__main__':
    run('tune')
