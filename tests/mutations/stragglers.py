"""Checkpoints of the training under way, training hours, and what takes long on its way."""

from tests.mutations.mutation import Mutation

CHECKPOINTS = "appliance/node/checkpoints.py"
WORK = "appliance/node/participant_work.py"
CHECKED = "appliance/storage/checked.py"
STATE = "appliance/training/checkpoint.py"
TRAINER = "appliance/training/trainer.py"
UNDER_WAY = "appliance/rounds/training.py"
PARTICIPANT = "appliance/rounds/participant.py"
STEP = "appliance/rounds/step.py"
AGGREGATOR = "appliance/rounds/aggregator.py"

STRAGGLERS = (
    Mutation(
        "a large update is sent again while it is on its way",
        PARTICIPANT,
        "first_s=window_s + transfer_s + ANSWER_S",
        "first_s=window_s + ANSWER_S",
        "the mesh fills with copies of one update",
    ),
    Mutation(
        "a candidate is said again while its body is on its way",
        AGGREGATOR,
        "self._replicate = Retry(first_s=transfer_s + 1.0, most_s=transfer_s + 10.0)",
        "self._replicate = Retry(first_s=1.0, most_s=10.0)",
        "every node asks for a large model that is on its way to it, and gets it twice",
    ),
    Mutation(
        "what is being stored is asked for",
        PARTICIPANT,
        "        if digest not in {self._fetching, self._storing}:\n",
        "        if digest != self._fetching:\n",
        "the slower half of a cluster gets each large model twice",
    ),
    Mutation(
        "what was stored once is for ever being stored",
        PARTICIPANT,
        "        self._stores_no_more(digest)\n        if self._candidate",
        "        if self._candidate",
        "a candidate that can't be read is never asked for, and its node leaves the rounds",
    ),
    Mutation(
        "the last call leaves no time for a large model",
        AGGREGATOR,
        "window_s + transfer_s + LAST_CALL_S",
        "window_s + LAST_CALL_S",
        "whoever is called last comes too late",
    ),
    Mutation(
        "a receipt takes as long as a model",
        PARTICIPANT,
        "self._fetch.put_off(Monotonic(now + ANSWER_S))",
        "self._fetch.schedule(now)",
        "whose receipt is lost stores the candidate a minute late",
    ),
    Mutation(
        "Adam begins anew",
        STATE,
        """        **{f"adam.{name}": tensor.reshape(tensor.shape or (1,)) for name, tensor in adam.state().items()},
""",
        "",
        "a resumed training ends with other weights",
    ),
    Mutation(
        "a resumed epoch begins at its first sample",
        TRAINER,
        "range(resume.epoch, settings.epochs), resume.batches",
        "range(resume.epoch, settings.epochs), 0",
        "samples are trained on twice",
    ),
    Mutation(
        "the skip stays for the next epochs",
        TRAINER,
        "                skip = 0\n",
        "",
        "samples are left out",
    ),
    Mutation(
        "any checkpoint will do",
        CHECKPOINTS,
        "if found is not None and found.header.training != training:",
        "if found is not None and found.header.training.round != training.round:",
        "an update is of another base, shard or settings than it says",
    ),
    Mutation(
        "the checkpoint is believed unchecked",
        CHECKED,
        "if content[:start] == magic + hashlib.sha256(rest).digest():",
        "if content[: len(magic)] == magic:",
        "damage goes into an update",
    ),
    Mutation(
        "a base that is not here costs the checkpoint",
        WORK,
        "        except (OperatorError, RemoteError):\n",
        "        except ApplianceError:\n",
        "a base that was damaged and fetched again is trained on from the beginning",
    ),
    Mutation(
        "a full disk ends the training",
        CHECKPOINTS,
        """            except StateError as error:
                tell(error)
                return
            self._round = training.round
""",
        """            except StateError:
                raise
            self._round = training.round
""",
        "a round loses a member for want of some megabytes",
    ),
    Mutation(
        "the pause forgets",
        WORK,
        "(pauses or self._checkpoints.is_due)",
        "self._checkpoints.is_due",
        "each window begins at the first sample",
    ),
    Mutation(
        "a finished training leaves its checkpoint",
        WORK,
        "            self._updates.put(record)\n        self._checkpoints.drop(round_, tell)\n",
        "            self._updates.put(record)\n",
        "megabytes stay on the disk for nothing",
    ),
    Mutation(
        "a paused training whose round is over is not stopped",
        UNDER_WAY,
        "or isinstance(self._told, StopTraining):",
        "or self._told is not None:",
        "its checkpoint is written and stays",
    ),
    Mutation(
        "training goes on when its hours are over",
        UNDER_WAY,
        "            order = PauseTraining()\n",
        "            order = None\n",
        "the machine is busy when its owner needs it",
    ),
    Mutation(
        "rounds wait for who is outside its hours",
        STEP,
        "UNABLE = {Step.FAILED, Step.CLOSED, Step.EXCLUDED}",
        "UNABLE = {Step.FAILED, Step.EXCLUDED}",
        "each round lasts until its deadline",
    ),
    Mutation(
        "what was said of the last round holds for the next",
        PARTICIPANT,
        "            self._said_unable = False  # that was about this round\n",
        "",
        "each round waits a second for who can't take part",
    ),
)
