"""ABINet: a vision model and a language model that correct each other, iteratively.

Paper: Fang et al., "Read Like Humans: Autonomous, Bidirectional and Iterative Language Modeling for Scene Text
Recognition", CVPR 2021. Parameter names are those of the weights published with PARSeq
(https://github.com/baudm/parseq, Apache-2.0), whose model follows the code of the paper
(https://github.com/FangShancheng/ABINet, BSD-2-Clause). The code here is written anew.
"""
