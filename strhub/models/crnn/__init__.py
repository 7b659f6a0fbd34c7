"""CRNN: Shi, Bai and Yao, "An End-to-End Trainable Neural Network for Image-Based Sequence Recognition", TPAMI 2017.

https://arxiv.org/abs/1507.05717. Published weights: baudm/parseq (Apache-2.0).
"""
