"""The same predictions held against another truth: the labels of 2017, or those of radiologists."""
