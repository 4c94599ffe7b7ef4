package checks

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
)

// patience bounds every wait for something that must come.
const patience = 5 * time.Second

// options of a stock client; the zero value is an ordinary client.
type options struct {
	at      string          // name of a node; the one under test if empty
	key     key.NodePrivate // a fresh one if zero
	mesh    bool            // shows the mesh key
	watch   bool            // asks for presence at once
	prober  bool
	pings   pings
	appName string
	region  *tailcfg.DERPRegion    // the node's if nil
	adjust  func(*derphttp.Client) // last, before it connects
}

// pings is how a client is with a relay that asks whether it lives.
type pings int

const (
	bare    pings = iota // never said that it would answer, and does not
	answers              // as tailscaled is
	deaf                 // said that it would, and does not: as one that moved away
)

// Peer is a stock client that is logged in, and all that it was told since.
type Peer struct {
	t      *T
	key    key.NodePrivate
	client *derphttp.Client
	pings  pings
	inbox  chan derp.ReceivedMessage // closed at the first error
	broken error                     // that error, to be read after the inbox is closed
}

// Login connects a stock client and waits for ServerInfo: from then on it is routable.
func (t *T) Login(with options) *Peer {
	peer, err := t.TryLogin(with)
	t.Must(err, "logging in")
	return peer
}

// TryLogin is Login for clients that may be refused.
func (t *T) TryLogin(with options) (*Peer, error) {
	client, private := t.client(with)
	ctx, cancel := context.WithTimeout(t.ctx, patience)
	defer cancel()
	if err := client.Connect(ctx); err != nil {
		return nil, err
	}
	peer := &Peer{t: t, key: private, client: client, pings: with.pings}
	peer.inbox = make(chan derp.ReceivedMessage, 1<<15)
	go peer.receive()
	message, err := peer.next(patience)
	if err != nil {
		return nil, fmt.Errorf("instead of ServerInfo: %w", err)
	}
	if _, ok := message.(derp.ServerInfoMessage); !ok {
		return nil, fmt.Errorf("first message is %T, not ServerInfo", message)
	}
	return peer, nil
}

// Near logs an ordinary client in at the node under test, where senders are.
func (t *T) Near() *Peer { return t.Login(options{}) }

// Distant logs one in at the other node of the pair, where receivers are.
func (t *T) Distant() *Peer { return t.Login(options{at: t.Far.Name}) }

func (t *T) client(with options) (*derphttp.Client, key.NodePrivate) {
	private, region := with.key, with.region
	if private.IsZero() {
		private = key.NewNode()
	}
	if region == nil {
		region = t.Region(with.at)
	}
	dial := func() *tailcfg.DERPRegion { return region }
	client := derphttp.NewRegionClient(private, logNothing, t.monitor, dial)
	client.WatchConnectionChanges = with.watch
	client.IsProber = with.prober
	client.SetCanAckPings(with.pings != bare)
	if with.mesh {
		t.Must(t.lib.SetMeshKey(client, t.MeshKey), "mesh key")
	}
	if with.appName != "" {
		t.lib.SetAppName(client, with.appName)
	}
	if with.adjust != nil {
		with.adjust(client)
	}
	t.OnEnd(func() { client.Close() })
	return client, private
}

// receive empties the connection so that the client never blocks the relay. The
// library lends the data only until the next call, hence the copy.
func (p *Peer) receive() {
	defer close(p.inbox)
	for {
		message, _, err := p.client.RecvDetail()
		if err != nil {
			p.broken = err
			return
		}
		switch told := message.(type) {
		case derp.ReceivedPacket:
			told.Data = slices.Clone(told.Data)
			message = told
		case derp.PingMessage:
			if p.pings == answers {
				p.client.SendPong(told)
			}
		}
		p.inbox <- message
	}
}

// Public is the key by which others reach this client.
func (p *Peer) Public() key.NodePublic { return p.key.Public() }

// Address is the client's own end of the connection.
func (p *Peer) Address() netip.AddrPort {
	address, err := p.client.LocalAddr()
	p.t.Must(err, "local address")
	return address
}

var errSilence = errors.New("nothing came")

// next is whatever comes next, or why nothing does.
func (p *Peer) next(within time.Duration) (derp.ReceivedMessage, error) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case message, ok := <-p.inbox:
		if !ok {
			return nil, p.broken
		}
		return message, nil
	case <-p.t.ctx.Done():
		return nil, p.t.ctx.Err()
	case <-timer.C:
		return nil, errSilence
	}
}

// await is the next message of its type; others before it are let go.
func await[M derp.ReceivedMessage](p *Peer, within time.Duration) M {
	deadline := time.Now().Add(within)
	for {
		message, err := p.next(time.Until(deadline))
		if err != nil {
			var wanted M
			p.t.Fatalf("waiting for %T: %v", wanted, err)
		}
		if wanted, ok := message.(M); ok {
			return wanted
		}
	}
}

// Expect takes the next packet, which must be this one.
func (p *Peer) Expect(from *Peer, data []byte) {
	packet := await[derp.ReceivedPacket](p, patience)
	if packet.Source != from.Public() {
		p.t.Fatalf("packet from %v, expected from %v", packet.Source.ShortString(), from.Public().ShortString())
	}
	if difference := compare(packet.Data, data); difference != "" {
		p.t.Fatalf("packet of %d bytes: %s", len(data), difference)
	}
}

// Send queues a packet at the relay.
func (p *Peer) Send(to key.NodePublic, data []byte) {
	p.t.Must(p.client.Send(to, data), "sending %d bytes", len(data))
}

// Speak makes the relay hear this client, and returns once it has.
func (p *Peer) Speak() {
	ping := [8]byte([]byte("speaking"))
	p.t.Must(p.client.SendPing(ping), "ping")
	for await[derp.PongMessage](p, patience) != derp.PongMessage(ping) {
	}
}

// Closed waits until the relay has ended the connection.
func (p *Peer) Closed(why string) {
	deadline := time.Now().Add(patience)
	for {
		_, err := p.next(time.Until(deadline))
		switch {
		case errors.Is(err, errSilence):
			p.t.Fatalf("%s: the connection is still open", why)
		case errors.Is(err, p.t.ctx.Err()) && p.t.ctx.Err() != nil:
			p.t.Fatalf("%s: %v", why, err)
		case err != nil:
			return
		}
	}
}

// Leave closes the client.
func (p *Peer) Leave() { p.client.Close() }

// compare tells how two payloads differ, briefly; "" if they do not.
func compare(got, expected []byte) string {
	if len(got) != len(expected) {
		return fmt.Sprintf("got %d bytes", len(got))
	}
	for i := range got {
		if got[i] != expected[i] {
			return fmt.Sprintf("byte %d is %#02x, not %#02x", i, got[i], expected[i])
		}
	}
	return ""
}
