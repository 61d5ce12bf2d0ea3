"""Statistics: exact metrics, their variances over patients, intervals and comparisons. Pure functions of arrays.

- ranking: the AUC and its bootstrap over patients
- clustered: variances and covariances of AUCs whose images come in patients
- intervals: logit-t intervals with effective patients, and when there is none
- comparing: two models, several seeds, folds, many models
- rank_correlation: how alike models order the same images
- calibration: Brier score, calibration error, temperature, a shifted prevalence
- thresholds: Youden's threshold, what a model says with it, average precision

scipy and scikit-learn are imported inside the functions that need them.
"""
