"""The data set itself and the networks: the paper's Tables 1 and 2, Figure 3, and what a split shares with others."""
