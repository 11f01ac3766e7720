"""Ours beside its neighbours: Flower and p2pfl, and beside bare PyTorch, on one machine with the same task.

    python -m bench.peers DATA [--rounds 10] [--repeats 2] [--kills 1] [--only KEY ...] [--out FILE]

DATA is a folder that torchvision.datasets.MNIST(DATA, download=False) reads. The task is the same for all: the
paper's network (784-128-2096-10), five shards of 12,000 images, one local epoch a round, batch 64, Adam 1e-3, one
thread for each participant, the mean of the five updates, judged on 10,000 held-out images once a round. Ours trains
with its own loop; the others with ``foreign.task``, the loop of the textbooks, so that what differs is the frameworks.

Each library is installed in a virtual environment of its own in ``.bench/``, made by the first run; then everything
happens in namespaces of its own (``bench.alone``). Contenders take turns, so that whatever else the machine does hits
all alike. What is measured:

- a round: from one global model to the next, by the clock of whoever aggregates; the first round of each run warms up;
- seconds to an accuracy: from the beginning of the first round to the first global model that is as good;
- memory: of all processes together, looked at once a second from the first round on, the most;
- bytes: what the loopback carried from the first model to the last, for a round;
- recovery: the aggregator is killed with -9 in the middle of a round; seconds to the next global model.

A Markdown table on standard output, JSON in FILE, progress on standard error.
"""
