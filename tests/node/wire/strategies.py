"""What the codec tests throw at a parser: values, and bytes gone wrong."""

from hypothesis import strategies as st

from derpnode.wire.keys import KEY_SIZE, NONCE_SIZE, NodeKey, PrivateKey


keys = st.binary(min_size=KEY_SIZE, max_size=KEY_SIZE).map(NodeKey)
nonces = st.binary(min_size=NONCE_SIZE, max_size=NONCE_SIZE)
private_keys = st.binary(min_size=KEY_SIZE, max_size=KEY_SIZE).map(PrivateKey.from_seed)
packets = st.binary(max_size=200)
ports = st.integers(0, 65535)


@st.composite
def damaged(draw, good):
    """Bytes that were right once: cut, extended, or with one bit flipped."""
    data = draw(good)
    at = draw(st.integers(0, len(data) - 1))
    flipped = bytearray(data)
    flipped[at] ^= 1 << draw(st.integers(0, 7))
    tail = draw(st.binary(min_size=1, max_size=8))
    return draw(st.sampled_from([bytes(flipped), data[:at], data + tail]))
