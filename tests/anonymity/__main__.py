"""``python -m tests.anonymity``: the figures of docs/security.md, as a table."""

import argparse
import random

from tests.anonymity.leader import CuriousLeader
from tests.anonymity.observe import Setting, even, observe, uneven
from tests.anonymity.relays import measured, theory

WINDOW_S = 0.6
WAYS = (("none", False, False), ("relay", True, False), ("broadcast", True, True))


def main() -> None:
    """Print how often a curious leader is right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=5000, help="guessed a row, after as many to learn from")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    updates, seed = arguments.updates, arguments.seed
    print(f"{updates} updates a row; window {WINDOW_S:g} s. Right guesses of the leader, in percent:\n")
    print("| nodes | machines | stem | window | all that it sees | deliverers only | times only | chance |")
    print("|---|---|---|---|---|---|---|---|")
    for nodes in (5, 10):
        for machines, training_s in (("alike", even), ("uneven", uneven)):
            for stem, stems, broadcasts in WAYS:
                for window_s in (0.0, WINDOW_S):
                    seen = observe(Setting(nodes, stems, broadcasts, window_s, training_s), 2 * updates, seed)
                    known, rest = seen[:updates], seen[updates:]
                    shares = [
                        CuriousLeader(known, sees_deliverers=deliverers, sees_times=times).success(rest)
                        for deliverers, times in ((True, True), (True, False), (False, True))
                    ]
                    cells = " | ".join(f"{100 * share:.1f}" for share in shares)
                    window = "yes" if window_s else "no"
                    print(
                        f"| {nodes} | {machines} | {stem} | {window} | {cells} | {100 / (nodes - 1):.1f} |", flush=True
                    )
    print("\nA leader with spies among the relays (100,000 stems a row, times apart), in percent:\n")
    print("| nodes | spies | right guesses | theory | chance among the honest |")
    print("|---|---|---|---|---|")
    for relays, spies in ((4, 0), (4, 1), (4, 2), (9, 0), (9, 1), (9, 2), (9, 4)):
        share = measured(relays, spies, 100_000, random.Random(seed))
        expected, chance = theory(relays, spies), 1 / (relays - spies)
        print(f"| {relays + 1} | {spies} | {100 * share:.1f} | {100 * expected:.1f} | {100 * chance:.1f} |", flush=True)


if __name__ == "__main__":
    main()
