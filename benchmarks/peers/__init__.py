"""Our update beside those of published code, whose checkouts are given and never fetched.

__main__   takes turns, compares
turns      a process that makes updates when asked to
ours       rewind_ray's epoch loop
open_lth   the training loop of facebookresearch/open_lth
mikler     that of sjmikler/reproducing-comparing-rewinding-and-finetuning, on TensorFlow
"""
