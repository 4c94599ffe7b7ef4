package checks

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tailscale.com/derp"
	"tailscale.com/types/key"
)

func ping(t *T) {
	peer := t.Login(options{})
	ctx, cancel := context.WithTimeout(t.ctx, patience)
	defer cancel()
	began := time.Now()
	t.Must(peer.client.Ping(ctx), "ping")
	t.Notef("answered in %v", time.Since(began).Round(time.Microsecond))
	peer.Speak()
}

// peerGone tells those who received from the client that left, and nobody else.
func peerGone(t *T) {
	leaver, receiver := t.Distant(), t.Near()
	sender, last := t.Near(), t.Distant()
	t.Reach(leaver, receiver)
	t.Reach(sender, leaver)
	t.Reach(last, sender)
	leaver.Leave()
	receiver.expectGone(leaver.Public(), derp.PeerGoneReasonDisconnected)
	last.Leave()
	sender.expectGone(last.Public(), derp.PeerGoneReasonDisconnected)
}

func (t *T) pass(from, to *Peer) {
	data := payload(100, 1)
	from.Send(to.Public(), data)
	to.Expect(from, data)
}

// expectGone takes the next PeerGone, which must be this one.
func (p *Peer) expectGone(wanted key.NodePublic, reason derp.PeerGoneReasonType) {
	gone := await[derp.PeerGoneMessage](p, patience)
	if gone.Peer != wanted || gone.Reason != reason {
		p.t.Fatalf("PeerGone for %v, reason %#02x; expected %v, %#02x",
			gone.Peer.ShortString(), gone.Reason, wanted.ShortString(), reason)
	}
}

// notHere answers path discovery only, three at once and then one a second.
func notHere(t *T) {
	const burst, refill = 3, time.Second
	peer := t.Login(options{})
	peer.Send(stranger(), payload(1400, 1))
	peer.Send(stranger(), discoPayload(61, 2))
	var asked []key.NodePublic
	for i := range 2 * burst {
		asked = append(asked, stranger())
		peer.Send(asked[i], discoPayload(62+i, uint64(i)))
	}
	for _, destination := range asked[:burst] {
		peer.expectGone(destination, derp.PeerGoneReasonNotHere)
	}
	t.Pause(refill + refill/10)
	later := stranger()
	peer.Send(later, discoPayload(200, 3))
	peer.expectGone(later, derp.PeerGoneReasonNotHere)
}

// leftNotHere answers path discovery to a client that was there.
func leftNotHere(t *T) {
	sender, leaver := t.acquainted()
	sender.Send(leaver.Public(), discoPayload(100, 1))
	leaver.Expect(sender, discoPayload(100, 1))
	leaver.Leave()
	sender.expectGone(leaver.Public(), derp.PeerGoneReasonDisconnected)
	sender.Send(leaver.Public(), discoPayload(100, 2))
	sender.expectGone(leaver.Public(), derp.PeerGoneReasonNotHere)
}

// notePreferred shows as the number of clients at home here.
func notePreferred(t *T) {
	const gauge = "derp_current_home_connections"
	before := t.metric(gauge)
	counts := func(more float64) func() bool {
		return func() bool { return t.metric(gauge) == before+more }
	}
	peer := t.Login(options{})
	peer.client.NotePreferred(true)
	t.Eventually("one more at home", patience, counts(1))
	peer.client.NotePreferred(false)
	t.Eventually("no more at home", patience, counts(0))
	peer.client.NotePreferred(true)
	t.Eventually("at home again", patience, counts(1))
	peer.Leave()
	t.Eventually("gone from home", patience, counts(0))
}

// metric reads one value from the node's metrics, where ours and derper's are.
func (t *T) metric(name string) float64 {
	for _, page := range []string{"/metrics", "/debug/varz"} {
		request, err := http.NewRequestWithContext(t.ctx, http.MethodGet, t.Node.Admin+page, nil)
		t.Must(err, "request")
		response, err := http.DefaultTransport.RoundTrip(request)
		t.Must(err, "asking for %s", page)
		defer response.Body.Close()
		if response.StatusCode == http.StatusOK {
			value, err := metricIn(response.Body, name)
			t.Must(err, page)
			return value
		}
	}
	t.Fatalf("no metrics at %s", t.Node.Admin)
	return 0
}

func metricIn(page io.Reader, name string) (float64, error) {
	lines := bufio.NewScanner(page)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("no %s", name)
}

// keepAlive comes after 60 to 65 s, though nothing is ever said.
func keepAlive(t *T) {
	const earliest, latest = 60 * time.Second, 65 * time.Second
	const tolerance = time.Second // of a busy machine's timers
	peer := t.Login(options{})
	began := time.Now()
	await[derp.KeepAliveMessage](peer, latest+patience)
	gap := time.Since(began)
	t.Notef("after %.2f s", gap.Seconds())
	if gap < earliest-tolerance || gap > latest+tolerance {
		t.Fatalf("keepalive after %v, expected %v to %v", gap, earliest, latest)
	}
}

// refused: a client that is not admitted is cut off before it is logged in.
func refused(t *T) {
	peer, err := t.TryLogin(options{})
	if peer != nil {
		t.Fatalf("a stranger was admitted")
	}
	if errors.Is(err, errSilence) {
		t.Fatalf("a stranger was neither admitted nor refused within %v", patience)
	}
	t.Notef("%v", err)
}
