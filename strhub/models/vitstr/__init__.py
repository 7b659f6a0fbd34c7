"""ViTSTR: Atienza, Vision Transformer for Fast and Efficient Scene Text Recognition, ICDAR 2021.

Source of the published weights: https://github.com/baudm/parseq (Apache-2.0); of the idea:
https://github.com/roatienza/deep-text-recognition-benchmark (Apache-2.0).
"""
