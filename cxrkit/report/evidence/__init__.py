"""What runs show and whether it may be believed: the runs found, the verdict on each, who may be pooled with whom."""
