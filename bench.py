#!/usr/bin/env python
"""Measures how fast and how large a model is: `./bench.py --help`."""

from strhub.__main__ import run

if __name__ == '__main__':
    run('bench')
