package checks

import (
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
)

// What PeerPresent says of a connection; the first only if nothing else is true.
const (
	isRegular  = 1
	isMeshPeer = 2
	isProber   = 4
	isNotIdeal = 8
)

// presence waits until the watcher is told of this key.
func (p *Peer) presence(of key.NodePublic) derp.PeerPresentMessage {
	for {
		if present := await[derp.PeerPresentMessage](p, patience); present.Key == of {
			return present
		}
	}
}

func (t *T) watcher() *Peer { return t.Login(options{mesh: true, watch: true}) }

// watchFlood tells a watcher of everybody, itself too, before it answers a ping.
func watchFlood(t *T) {
	one, other := t.Login(options{}), t.Login(options{})
	watcher := t.watcher()
	seen := watcher.present()
	for _, peer := range []*Peer{one, other, watcher} {
		present, ok := seen[peer.Public()]
		if !ok {
			t.Fatalf("one of three is missing from a flood of %d", len(seen))
		}
		if present.IPPort != peer.Address() {
			t.Fatalf("%v is announced as %v", peer.Address(), present.IPPort)
		}
	}
	if flags := seen[one.Public()].Flags; flags != isRegular {
		t.Fatalf("a regular client has flags %#02x", flags)
	}
	if flags := seen[watcher.Public()].Flags; flags != isMeshPeer {
		t.Fatalf("the watcher has flags %#02x", flags)
	}
}

// present is whom the watcher is told of, up to the answer to a ping.
func (p *Peer) present() map[key.NodePublic]derp.PeerPresentMessage {
	seen := map[key.NodePublic]derp.PeerPresentMessage{}
	for _, message := range p.untilPong() {
		if message, ok := message.(derp.PeerPresentMessage); ok {
			seen[message.Key] = message
		}
	}
	return seen
}

// untilPong is all that comes up to the answer to a ping.
func (p *Peer) untilPong() (messages []derp.ReceivedMessage) {
	p.t.Must(p.client.SendPing([8]byte([]byte("and now?"))), "ping")
	for {
		message, err := p.next(patience)
		p.t.Must(err, "waiting for a pong")
		if _, ok := message.(derp.PongMessage); ok {
			return messages
		}
		messages = append(messages, message)
	}
}

// presenceIsFast: watchers hear of a login in time, and packets by way of another
// node arrive as soon.
func presenceIsFast(t *T) {
	const rounds = 20
	watcher := t.Login(options{at: t.Far.Name, mesh: true, watch: true})
	sender := t.Near()
	var told, reached []time.Duration
	for range rounds {
		peer := t.Distant()
		began := time.Now()
		watcher.presence(peer.Public())
		told = append(told, time.Since(began))
		t.Reach(sender, peer)
		reached = append(reached, time.Since(began))
	}
	t.soon("told", told)
	t.soon("reached", reached)
}

// soon allows for a tenth of delays that a busy machine is to blame for.
func (t *T) soon(what string, delays []time.Duration) {
	const limit = 100 * time.Millisecond
	slices.Sort(delays)
	median, slowest := delays[len(delays)/2], delays[len(delays)-1]
	t.Notef("%s: median %v, slowest %v", what, median.Round(time.Microsecond), slowest.Round(time.Microsecond))
	if late := delays[len(delays)*9/10]; late > limit {
		t.Fatalf("a tenth are %s after %v or more, limit is %v", what, late, limit)
	}
}

// probed: derpprobe sends 100 ms after it has connected its receiver, and only once.
func probed(t *T) {
	for range 3 {
		prober := options{prober: true, mesh: true}
		sender := t.Login(prober)
		prober.at = t.Far.Name
		receiver := t.Login(prober)
		t.Pause(100 * time.Millisecond)
		sender.Send(receiver.Public(), payload(8, 1))
		receiver.Expect(sender, payload(8, 1))
	}
}

// presencePerConnection: one PeerPresent for each, one PeerGone for the last.
func presencePerConnection(t *T) {
	watcher, sender, shared := t.watcher(), t.Login(options{}), key.NewNode()
	first := t.Login(options{key: shared})
	if present := watcher.presence(shared.Public()); present.IPPort != first.Address() {
		t.Fatalf("the first is at %v, announced as %v", first.Address(), present.IPPort)
	}
	second := t.Login(options{key: shared})
	if present := watcher.presence(shared.Public()); present.IPPort != second.Address() {
		t.Fatalf("the second is at %v, announced as %v", second.Address(), present.IPPort)
	}
	second.Leave()
	t.Reach(sender, first) // so the relay knows that the second has left
	sender.Leave()
	watcher.firstGone(sender.Public(), shared.Public())
	first.Leave()
	watcher.firstGone(shared.Public())
}

// firstGone waits for the first of these keys to be gone, which must be the first
// one; clients of other checks may still be leaving.
func (p *Peer) firstGone(wanted key.NodePublic, others ...key.NodePublic) {
	for {
		gone := await[derp.PeerGoneMessage](p, patience)
		if slices.Contains(others, gone.Peer) {
			p.t.Fatalf("PeerGone for %v too early", gone.Peer.ShortString())
		}
		if gone.Peer != wanted {
			continue
		}
		if gone.Reason != derp.PeerGoneReasonDisconnected {
			p.t.Fatalf("PeerGone with reason %#02x", gone.Reason)
		}
		return
	}
}

func presenceFlags(t *T) {
	watcher := t.watcher()
	kinds := map[string]struct {
		options
		flags derp.PeerPresentFlags
	}{
		"regular":           {options{}, isRegular},
		"mesh":              {options{mesh: true}, isMeshPeer},
		"prober":            {options{prober: true}, isProber},
		"not ideal":         {options{region: t.behindDeadNode()}, isNotIdeal},
		"prober, not ideal": {options{prober: true, region: t.behindDeadNode()}, isProber | isNotIdeal},
		"all, and so no longer regular": {
			options{mesh: true, prober: true, region: t.behindDeadNode()},
			isMeshPeer | isProber | isNotIdeal,
		},
	}
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		peer := t.Login(kinds[name].options)
		present := watcher.presence(peer.Public())
		if expected := kinds[name].flags; present.Flags != expected {
			t.Fatalf("%s: flags %#02x, expected %#02x", name, present.Flags, expected)
		}
		if present.IPPort != peer.Address() {
			t.Fatalf("%s: at %v, announced as %v", name, peer.Address(), present.IPPort)
		}
	}
}

// behindDeadNode is the region as seen when its first node refuses connections.
func (t *T) behindDeadNode() *tailcfg.DERPRegion {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	t.Must(err, "finding a port")
	dead := t.region.Nodes[0].Clone()
	dead.Name, dead.DERPPort = "dead", listener.Addr().(*net.TCPAddr).Port
	dead.IPv4, dead.IPv6 = "127.0.0.1", "none"
	listener.Close()
	region := t.Region("")
	region.Nodes = slices.Insert(region.Nodes, 0, dead)
	return region
}

func proberIsServed(t *T) {
	t.bothWays(t.Login(options{prober: true}), t.Login(options{prober: true}), 8, 1400)
}

// appName reaches watchers.
func appName(t *T) {
	watcher := t.watcher()
	for _, name := range []string{"interop", strings.Repeat("x", 32), " ~"} {
		peer := t.Login(options{appName: name})
		if told := t.lib.AppName(watcher.presence(peer.Public())); told != name {
			t.Fatalf("the name is %q, announced as %q", name, told)
		}
	}
}

// appNameLimits refuses names that are too long or not printable.
func appNameLimits(t *T) {
	for _, name := range []string{strings.Repeat("x", 33), `\n`, `\u0000`, "é"} {
		raw := t.Upgrade()
		info := `{"version":2,"AppName":"` + name + `"}`
		raw.Say(frame(frameClientInfo, raw.clientInfo(key.NewNode(), info)))
		if said := raw.Ended("the name " + name); said != "" {
			t.Fatalf("the name %s is answered by %q", name, said)
		}
	}
}

// forward delivers under the original sender's key, and never passes on.
func forward(t *T) {
	mesh, receiver, origin := t.Login(options{mesh: true}), t.Login(options{}), stranger()
	for _, size := range []int{0, 1400, 65536} {
		data := payload(size, 1)
		t.Must(t.lib.Forward(mesh.client, origin, receiver.Public(), data), "forwarding")
		packet := await[derp.ReceivedPacket](receiver, patience)
		if difference := compare(packet.Data, data); difference != "" || packet.Source != origin {
			t.Fatalf("%d bytes: %s, from %v", size, difference, packet.Source.ShortString())
		}
	}
	nobody := stranger()
	t.Must(t.lib.Forward(mesh.client, origin, nobody, discoPayload(100, 1)), "forwarding")
	mesh.expectGone(nobody, derp.PeerGoneReasonNotHere)
}

// closePeer ends every connection of a key; a key that nobody has is no harm.
func closePeer(t *T) {
	mesh, shared := t.Login(options{mesh: true}), key.NewNode()
	one, other := t.Login(options{key: shared}), t.Login(options{key: shared})
	bystander := t.Login(options{})
	t.Must(mesh.client.ClosePeer(stranger()), "ClosePeer")
	mesh.Speak()
	t.Must(mesh.client.ClosePeer(shared.Public()), "ClosePeer")
	one.Closed("one of two")
	other.Closed("the other of two")
	bystander.Speak()
}

// noMeshRight: what only a mesh peer may ask for ends an ordinary connection.
func noMeshRight(t *T) {
	wrongKey := func(c *derphttp.Client) {
		t.Must(t.lib.SetMeshKey(c, strings.Repeat("5", 64)), "mesh key")
	}
	for _, adjust := range []func(*derphttp.Client){nil, wrongKey} {
		t.watchIsRefused(adjust)
		forwarder := t.Login(options{adjust: adjust})
		t.Must(t.lib.Forward(forwarder.client, stranger(), stranger(), []byte("x")), "forwarding")
		forwarder.Closed("after ForwardPacket")
		closer, victim := t.Login(options{adjust: adjust}), t.Login(options{})
		t.Must(closer.client.ClosePeer(victim.Public()), "ClosePeer")
		closer.Closed("after ClosePeer")
		victim.Speak()
	}
}

func (t *T) watchIsRefused(adjust func(*derphttp.Client)) {
	watcher, err := t.TryLogin(options{watch: true, adjust: adjust})
	switch {
	case errors.Is(err, errSilence):
		t.Fatalf("WatchConns: neither served nor closed")
	case err == nil:
		watcher.Closed("after WatchConns")
	}
}
