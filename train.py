#!/usr/bin/env python
"""Trains a model: ./train.py --help"""

from strhub.engine.fit import main

if __name__ == '__main__':
    main()
