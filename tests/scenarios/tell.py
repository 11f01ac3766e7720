"""What the cores ask for and wait for, as sentences."""

from collections.abc import Callable

from appliance.rounds import actions as do
from appliance.words.messages import Announcement, Finished, LeaderStatement, Opening, Participation, Stored
from appliance.words.models import Encoding

NameOf = Callable[[object], str]
"""Gives the script's name (m4, u1, k1) of a digest, an update's id, a handle or a key's id."""


def tell(action: do.Action, name: NameOf) -> str:
    """Return an action as a sentence without its subject."""
    match action:
        case do.MakeLeaderKey(term):
            return f"makes a key pair for term {term}"
        case do.Say(statement, to, with_body):
            whom = "all" if to is None else " ".join(sorted(to))
            return f"tells {whom}: {_statement(statement, name)}{', with its body' if with_body else ''}"
        case do.CreateInitialModel():
            return "makes the initial model"
        case do.ObtainModel(digest, peer):
            return f"asks {peer} for {name(digest)}"
        case do.StartCollecting(_, round_, _, _):
            return f"begins an empty sum for round {round_}"
        case do.SignToken(member, _):
            return f"signs the token of {member}"
        case do.Count(handle):
            return f"counts {name(handle)}"
        case do.Answer(handle, accepted, reason):
            return f"accepts {name(handle)}" if accepted else f"refuses {name(handle)}: {reason}"
        case do.Aggregate(_, round_):
            return f"aggregates round {round_}"
        case do.BringBack(_, _, digest):
            return f"brings back {name(digest)}"
        case do.Propose(model):
            base = "nothing" if model.base is None else name(model.base)
            why = "" if model.rolled_back_to is None else f", back to version {model.rolled_back_to}"
            why += f", withheld: {model.withheld}" if model.withheld else ""
            return (
                f"proposes {name(model.digest)} (version {model.version}, round {model.round}, term {model.term}, on "
                f"{base}: {model.updates} of {model.expected} updates, {model.samples} samples{why})"
            )
        case do.HandOver():
            return "hands over"
        case do.Note(level, text):
            return f"logs {level}: {text}"
        case _:
            return _tell_participant(action, name)


def _tell_participant(action: do.Action, name: NameOf) -> str:
    match action:
        case do.Fetch(digest):
            return f"asks the leader for {name(digest)}"
        case do.StoreCandidate(digest):
            return f"opens the body of {name(digest)}"
        case do.Tell(to, Stored() as answer):
            return f"tells {to}: {name(answer.digest)} of round {answer.round} is stored, term {answer.term}"
        case do.Tell(to, Participation() as message):
            return f"tells {to}: I can{'' if message.able else 'not'} take part in round {message.round}"
        case do.Tell(to, Finished() as message):
            return f"tells {to}: my update of round {message.round} is finished"
        case do.Train(round_, base):
            return f"trains for round {round_} on {name(base)}"
        case do.StopTraining():
            return "stops training"
        case do.AskToken(leader, _, round_, token_key):
            return f"asks {leader} for its token of round {round_} with {name(token_key)}"
        case do.Deliver(update_id, _, encoding, _):
            return f"delivers {name(update_id)}{_in(encoding)}"
        case do.Forget(update_id, _):
            return f"forgets {name(update_id)}"
        case _:
            raise AssertionError(f"no words for {action}")


def _statement(statement: LeaderStatement, name: NameOf) -> str:
    if isinstance(statement, Announcement):
        return f"my key of term {statement.term} is {name(statement.key_id)}"
    if isinstance(statement, Opening):
        return (
            f"round {statement.round} is open on {name(statement.base)} under {name(statement.key_id)}, "
            f"{statement.accepted} of {statement.expected} updates, quorum {statement.quorum}"
            f"{_in(statement.encoding)}{'' if statement.deliver else ', to be delivered later'}"
        )
    return f"store {name(statement.digest)}, candidate of round {statement.round}"


def _in(encoding: Encoding) -> str:
    """Return what says an encoding; the exact one goes without saying."""
    return "" if encoding == "float32" else f", in {encoding}"


def tell_wait(wait: do.Waiting, now: float) -> str:
    """Return a wait as a sentence: reason, since, until."""
    bound = "no bound" if wait.until is None else f"{wait.until - now:g} s left"
    return f"{wait.reason} (for {now - wait.since:g} s, {bound})"
