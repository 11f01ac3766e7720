"""Who knows what: stems, windows, tokens, envelopes, keys of datagrams, revocation, limits of the mesh."""

from tests.mutations.mutation import Mutation

STEM = "appliance/delivery/stem.py"
PADDING = "appliance/delivery/padding.py"
PARTICIPANT = "appliance/rounds/participant.py"
AGGREGATOR = "appliance/rounds/aggregator.py"
ANNOUNCING = "appliance/rounds/announcing.py"
COLLECTED = "appliance/rounds/collected.py"
MINT = "appliance/tokens/mint.py"
WALLET = "appliance/tokens/wallet.py"
BLIND = "appliance/tokens/blind.py"
STREAMING = "appliance/envelopes/streaming.py"
STREAM = "appliance/envelopes/stream.py"
WRAPPING = "appliance/envelopes/wrapping.py"
KEYS = "appliance/envelopes/keys.py"
POOL = "appliance/envelopes/pool.py"
AGREEMENT = "appliance/datagrams/agreement.py"
PAIR = "appliance/datagrams/pair.py"
REVOCATIONS = "appliance/pki/revocations.py"
STATEMENTS = "appliance/pki/statements.py"
IDENTITY = "appliance/pki/identity.py"

SECRECY = (
    Mutation(
        "the author is no relay of its own",
        STEM,
        "        choices = sorted({*relays, self._node})\n",
        "        choices = sorted({*relays} - {self._node})\n",
        "who delivers is never the author, and that is knowledge",
    ),
    Mutation(
        "a stem goes round for ever",
        STEM,
        "        if self._visits[envelope_id] > VISITS:\n            return None\n",
        "",
        "a hostile member's repetition costs the others as much each time",
    ),
    Mutation(
        "padding may hold anything",
        PADDING,
        '    if bytes(view[end:]).strip(b"\\0"):\n        raise RemoteError("envelope: its padding is not empty")\n',
        "",
        "one content has many encodings",
    ),
    Mutation(
        "an update leaves when it is finished",
        PARTICIPANT,
        "        if not opening.deliver:\n",
        "        if False:\n",
        "the leader sees by the time who is fast",
    ),
    Mutation(
        "all may deliver at once",
        AGGREGATOR,
        "deliver=self._window_s == 0)",
        "deliver=True)",
        "the leader sees by the time who is fast",
    ),
    Mutation(
        "an update needs no token",
        PARTICIPANT,
        "        if self._token_key != opening.token_key:\n            return Step.TOKENLESS\n",
        "",
        "it is sealed with none, and refused for ever",
    ),
    Mutation(
        "a token counts twice",
        COLLECTED,
        '            return "" if counted == update.update_id else "its token was used for another update"\n',
        '            return ""\n',
        "a member is told that both of its updates count",
    ),
    Mutation(
        "an update without a token stands for a member",
        COLLECTED,
        "        if update.token and update.token not in self.accepted:\n",
        "        if update.token not in self.accepted:\n",
        "inventions close a round early",
    ),
    Mutation(
        "whoever asks has a token",
        AGGREGATOR,
        "        is_ours = member in self._electorate.members and self._is_current(message.term, message.round)\n",
        "        is_ours = self._is_current(message.term, message.round)\n",
        "a node that is no voter counts",
    ),
    Mutation(
        "a second token for a member",
        MINT,
        "        elif known != blinded:\n",
        "        elif known != blinded and not blinded:\n",
        "a member counts as often as it likes",
    ),
    Mutation(
        "a key serves for ever",
        ANNOUNCING,
        "        return self._rounds >= self._key_rounds\n",
        "        return self._rounds < 0\n",
        "what was recorded for weeks is sealed to one key",
    ),
    Mutation(
        "all rounds' tokens are one",
        WALLET,
        "info=_LABEL + key_id)",
        "info=_LABEL)",
        "the leader links a member's tokens by their nonce",
    ),
    Mutation(
        "anything is signed",
        BLIND,
        "    if len(blinded) != _size(key) or not 1 < number < n - 1 or math.gcd(number, n) != 1:\n",
        "    if len(blinded) != _size(key) or number >= n:\n",
        "0, 1 and -1 are signed, and give nothing to blind",
    ),
    Mutation(
        "a cut stream is whole",
        STREAMING,
        "        chunk = self._cipher.open(rest, last=True)\n",
        "        chunk = self._cipher.open(rest, last=len(rest) < _SEALED)\n",
        "a stream that ends with a whole chunk opens without its rest",
    ),
    Mutation(
        "an error passes",
        STREAMING,
        "            self._failure = error\n",
        "",
        "after a chunk that is not authentic the next may be taken",
    ),
    Mutation(
        "the header is not authenticated",
        STREAM,
        "            return self._cipher.decrypt(nonce, sealed, self._head)\n",
        "            return self._cipher.decrypt(nonce, sealed, None)\n",
        "nothing opens, or all do",
    ),
    Mutation(
        "one secret is enough",
        WRAPPING,
        "derive(secret + other)",
        "derive(secret)",
        "whoever breaks RSA opens hybrid envelopes",
    ),
    Mutation(
        "an answer takes no secret",
        WRAPPING,
        "(REPLY_LABEL, recipient.secret)",
        '(REPLY_LABEL, b"")',
        "an answer is as safe as its short-lived key, and not more",
    ),
    Mutation(
        "all reply secrets are alike",
        POOL,
        "os.urandom(REPLY_SECRET_BYTES)",
        "bytes(REPLY_SECRET_BYTES)",
        "the same, and nobody sees it",
    ),
    Mutation(
        "a weaker suite is as good",
        KEYS,
        '    if bool(rest) != (suite == "rsa+mlkem768"):\n',
        '    if rest and suite == "rsa":\n',
        "a leader has everybody seal to RSA alone",
    ),
    Mutation(
        "a doubled offer makes another secret",
        AGREEMENT,
        "        if self._answer is not None and self._answer.offered == message.public_key:\n"
        "            return self._answer, None\n",
        "",
        "the two have different secrets until they notice that they are deaf",
    ),
    Mutation(
        "an answer to any offer",
        AGREEMENT,
        "        if mine is None or _public_bytes(mine) != message.offered:\n",
        "        if mine is None:\n",
        "a late answer makes a secret that the other does not have",
    ),
    Mutation(
        "who is deaf stays deaf",
        AGREEMENT,
        "        if now >= max(self.agreed_at, self._heard_at) + SILENT_S:\n            return True\n",
        "",
        "two with different secrets never agree again",
    ),
    Mutation(
        "a renewal is a pause",
        PAIR,
        "        self._former, self._present, self._since = self._present, None, now\n",
        "        self._former, self._present, self._since = None, None, now\n",
        "datagrams are lost with each renewal",
    ),
    Mutation(
        "a secret lasts for ever",
        AGREEMENT,
        "        if self.agreed_at is not None and now >= self.agreed_at + KEPT_AT_MOST_S:\n"
        "            self.agreed_at = None\n",
        "",
        "a node that is out of the mesh stays in consensus",
    ),
    Mutation(
        "anybody's list",
        REVOCATIONS,
        "crl.is_signature_valid(key) and",
        "bool(key) and",
        "anybody with the authority's name revokes",
    ),
    Mutation(
        "a list is not said to TLS",
        IDENTITY,
        "            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF\n",
        "            pass\n",
        "a revoked node connects as before",
    ),
    Mutation(
        "a revoked leader is believed",
        STATEMENTS,
        "        if certificate.serial_number in self._revoked:\n",
        "        if not certificate.serial_number:\n",
        "what was signed with a stolen key is followed",
    ),
)
