"""Clusters whose nodes are all processes of this machine: for the demonstration, the experiments and the benchmarks."""
