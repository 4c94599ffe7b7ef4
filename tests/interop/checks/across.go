package checks

import (
	"os"
	"time"

	"tailscale.com/derp"
	"tailscale.com/types/key"
)

// oneHop: what comes from a mesh peer goes to who is here, and nowhere else.
func oneHop(t *T) {
	sender, receiver := t.acquainted()
	mesh := t.Login(options{mesh: true})
	err := t.lib.Forward(mesh.client, stranger(), receiver.Public(), discoPayload(100, 1))
	t.Must(err, "forwarding")
	mesh.expectGone(receiver.Public(), derp.PeerGoneReasonNotHere)
	sender.Send(receiver.Public(), payload(100, 2))
	receiver.Expect(sender, payload(100, 2)) // its next packet: the other never came
}

// watchLocals: a node tells of those who are connected to it, and of nobody else.
func watchLocals(t *T) {
	early := t.watcher()
	_, distant := t.acquainted()
	last := t.Near()
	for _, watcher := range []*Peer{early, t.watcher()} {
		told := map[key.NodePublic]bool{}
		for !told[last.Public()] {
			told[await[derp.PeerPresentMessage](watcher, patience).Key] = true
		}
		for key := range watcher.present() {
			told[key] = true
		}
		if told[distant.Public()] {
			t.Fatalf("a client of another node is announced")
		}
	}
}

// oneWay: where only the sender's node has a link to the other, packets go that way,
// and the other node knows nobody at the sender's.
func oneWay(t *T) {
	near, distant := t.Near(), t.Distant()
	t.Reach(near, distant)
	distant.Send(near.Public(), discoPayload(100, 1))
	distant.expectGone(near.Public(), derp.PeerGoneReasonNotHere)
}

// duplicatesApart: of two connections of a key the one at the sender's node receives,
// both stay, and either is there for all when the other leaves.
func duplicatesApart(t *T) {
	const questioned = 1500 * time.Millisecond // by our nodes, at most
	type twins struct{ here, there *Peer }
	near, distant := t.Near(), t.Distant()
	var all []twins
	for _, kind := range []options{{}, {pings: answers}, {pings: deaf, prober: true}} {
		kind.key = key.NewNode()
		one := twins{here: t.Login(kind)}
		kind.at = t.Far.Name
		one.there = t.Login(kind)
		t.Reach(near, one.here)
		t.Reach(distant, one.there)
		all = append(all, one)
	}
	t.Pause(questioned)
	for i, one := range all {
		near.Send(one.here.Public(), payload(100, 1))
		distant.Send(one.there.Public(), payload(100, 2))
		one.here.Expect(near, payload(100, 1))
		one.there.Expect(distant, payload(100, 2))
		if i == 0 {
			one.there.Leave()
			t.Reach(distant, one.here)
			continue
		}
		one.here.Leave()
		t.Reach(near, one.there)
	}
}

// closePeerApart ends connections at the node that is asked, and at no other.
func closePeerApart(t *T) {
	shared, distant := key.NewNode(), t.Distant()
	here := t.Login(options{key: shared})
	there := t.Login(options{key: shared, at: t.Far.Name})
	near := t.Login(options{mesh: true})
	far := t.Login(options{mesh: true, at: t.Far.Name})
	t.Must(near.client.ClosePeer(distant.Public()), "ClosePeer")
	near.Speak()
	distant.Speak()
	t.Must(far.client.ClosePeer(shared.Public()), "ClosePeer")
	there.Closed("at the node that was asked")
	here.Speak()
	t.Must(far.client.ClosePeer(distant.Public()), "ClosePeer")
	distant.Closed("at the node that was asked")
}

// nodeDies: those who received from a client of a node that crashes are told at once.
func nodeDies(t *T) {
	near, distant := t.acquainted()
	process, err := os.FindProcess(t.Far.PID)
	t.Must(err, "finding the node")
	began := time.Now()
	t.Must(process.Kill(), "killing it")
	near.expectGone(distant.Public(), derp.PeerGoneReasonDisconnected)
	elapsed := time.Since(began)
	t.Notef("told after %v", elapsed.Round(time.Microsecond))
	if elapsed > time.Second {
		t.Fatalf("not within a second")
	}
}

// linkCut: those who received by a lost link are told at once; the link comes back,
// and the one the other way never noticed.
func linkCut(t *T) {
	near, distant := t.acquainted()
	third := t.Near()
	t.Reach(distant, third)
	mesh := t.Login(options{mesh: true, at: t.Far.Name})
	began := time.Now()
	t.Must(mesh.client.ClosePeer(near.client.ServerPublicKey()), "ClosePeer")
	near.expectGone(distant.Public(), derp.PeerGoneReasonDisconnected)
	t.Notef("told after %v", time.Since(began).Round(time.Microsecond))
	third.expectGone(distant.Public(), derp.PeerGoneReasonDisconnected)
	distant.Send(near.Public(), payload(100, 1))
	near.Expect(distant, payload(100, 1))
	t.reachWithin(t.Relink, near, distant)
	t.Notef("reached after %v", time.Since(began).Round(time.Millisecond))
}
