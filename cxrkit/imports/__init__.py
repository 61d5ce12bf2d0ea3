"""What comes from elsewhere: predictions of any model, made by any framework, become a run like any other.

`cohort` finds who has what, without pixels; `reading` and `label_names` understand a file; `checking` says what is
wrong with it; `importing` writes the run folder.
"""
