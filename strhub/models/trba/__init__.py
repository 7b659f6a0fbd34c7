"""TRBA: Baek et al., "What Is Wrong With Scene Text Recognition Model Comparisons?
Dataset and Model Analysis", ICCV 2019, https://arxiv.org/abs/1904.01906.

TPS, ResNet, BiLSTM, attention (TRBC: CTC). Published weights: baudm/parseq (Apache-2.0).
"""
