#!/usr/bin/env python3
"""Measures a checkpoint on the benchmark or on your own sets: `./test.py --help`."""

from strhub.__main__ import run

if __name__ == '__main__':
    run('test')
