"""Trackers of experiments, fed from a run's metrics.jsonl: TensorBoard, Weights & Biases, MLflow.

`following.follow` sends the lines while a training runs, `following.send` those of one that ran before. A tracker is a
class of a few lines (`on_tensorboard.py` is the shortest); its library is imported when it is opened.
"""
