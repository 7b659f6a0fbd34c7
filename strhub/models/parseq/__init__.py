"""PARSeq: Bautista and Atienza, Scene Text Recognition with Permuted Autoregressive Sequence Models, ECCV 2022.

Source of the published weights: https://github.com/baudm/parseq (Apache-2.0).
"""
