package checks

import (
	"encoding/binary"
	"slices"
	"sync/atomic"
	"time"

	"tailscale.com/derp"
	"tailscale.com/types/key"
)

// everywhere logs in a client at each node.
func (t *T) everywhere(with options) (peers []*Peer) {
	for _, node := range t.Nodes {
		with.at = node.Name
		peers = append(peers, t.Login(with))
	}
	return peers
}

// lastPlace: who received from a key is told when its last connection in the region
// is gone, wherever that was, and not before.
func lastPlace(t *T) {
	for first := range t.Nodes {
		receivers := t.everywhere(options{})
		places := t.everywhere(options{key: key.NewNode()})
		shared := places[0].Public()
		for i, receiver := range receivers {
			t.Reach(places[i], receiver)
			t.Reach(receiver, places[i])
		}
		order := slices.Concat(places[first:], places[:first])
		for i, place := range order[:len(order)-1] {
			place.Leave()
			for at, receiver := range receivers {
				remaining := order[i+1:]
				if !slices.Contains(remaining, places[at]) {
					t.reachAny(receiver, remaining)
				}
				receiver.notTold(shared)
			}
		}
		order[len(order)-1].Leave()
		for _, receiver := range receivers {
			receiver.expectGone(shared, derp.PeerGoneReasonDisconnected)
		}
	}
}

// reachAny sends until a packet comes to any connection of a key.
func (t *T) reachAny(from *Peer, places []*Peer) {
	t.Eventually("one of the places is reached", patience, func() bool {
		from.Send(places[0].Public(), payload(10, 1))
		return slices.ContainsFunc(places, func(place *Peer) bool {
			packet, err := place.packetWithin(10 * time.Millisecond)
			return err == nil && packet.Source == from.Public()
		})
	})
}

func (p *Peer) notTold(of key.NodePublic) {
	for _, message := range p.untilPong() {
		if gone, ok := message.(derp.PeerGoneMessage); ok && gone.Peer == of {
			p.t.Fatalf("PeerGone at %v while a connection is left", p.Address())
		}
	}
}

// moves: a client that goes from node to node is reached wherever it is, from every
// node. What was sent while it moved may be lost, and is counted.
func moves(t *T) {
	const count = 50
	shared := key.NewNode()
	senders := t.everywhere(options{})
	place := t.Login(options{key: shared})
	streams := t.streamTo(shared.Public(), senders, 5*time.Millisecond)
	var received int
	var delays []time.Duration
	for i := range count {
		next := options{key: shared, at: t.Nodes[(i+1)%len(t.Nodes)].Name}
		old := place
		if i%2 == 0 {
			old.Leave()
		}
		place = t.Login(next)
		old.Leave()
		began := time.Now()
		received += t.fromEach(senders, place)
		delays = append(delays, time.Since(began))
		received += old.packetsLeft()
	}
	sent := streams.end()
	t.Pause(100 * time.Millisecond)
	place.Leave()
	received += place.packetsLeft()
	slices.Sort(delays)
	t.Notef("reached from everywhere after %v, at most %v; %d of %d packets lost",
		delays[count/2].Round(time.Microsecond), delays[count-1].Round(time.Microsecond), sent-received, sent)
}

// fromEach waits for a packet of each sender; returns how many came.
func (t *T) fromEach(senders []*Peer, to *Peer) (count int) {
	waiting := map[key.NodePublic]bool{}
	for _, sender := range senders {
		waiting[sender.Public()] = true
	}
	for ; len(waiting) > 0; count++ {
		packet, err := to.nextPacket()
		t.Must(err, "%d of %d senders do not reach it", len(waiting), len(senders))
		delete(waiting, packet.Source)
	}
	return count
}

// packetsLeft counts what still came before a client left.
func (p *Peer) packetsLeft() (count int) {
	for message := range p.inbox {
		if _, ok := message.(derp.ReceivedPacket); ok {
			count++
		}
	}
	return count
}

// streams send to one key at a steady pace.
type streams struct {
	stop  chan struct{}
	ended chan struct{}
	sent  atomic.Int64
	from  int
}

func (t *T) streamTo(to key.NodePublic, senders []*Peer, pause time.Duration) *streams {
	all := &streams{stop: make(chan struct{}), ended: make(chan struct{}), from: len(senders)}
	t.OnEnd(func() { all.end() })
	for _, sender := range senders {
		go all.send(sender, to, pause)
	}
	return all
}

func (s *streams) send(from *Peer, to key.NodePublic, pause time.Duration) {
	defer func() { s.ended <- struct{}{} }()
	ticks := time.NewTicker(pause)
	defer ticks.Stop()
	for i := uint64(0); ; i++ {
		select {
		case <-s.stop:
			return
		case <-ticks.C:
		}
		if from.client.Send(to, binary.BigEndian.AppendUint64(nil, i)) == nil {
			s.sent.Add(1)
		}
	}
}

// end stops the streams and returns how many packets they sent.
func (s *streams) end() int {
	if s.from > 0 {
		close(s.stop)
	}
	for ; s.from > 0; s.from-- {
		<-s.ended
	}
	return int(s.sent.Load())
}

// roaming: a client moves on, and its node hears nothing of it: the connection that
// it leaves behind stays open and silent. Unlike at derper, it is reached in 2 s from
// every node. It goes from the near to the distant node; round and round if they are
// one.
func roaming(t *T) {
	const limit = 2 * time.Second
	stops := []Node{t.Far}
	if !t.Apart() {
		stops = slices.Concat(t.Nodes[1:], t.Nodes)
	}
	shared := key.NewNode()
	senders := t.everywhere(options{})
	place := t.Login(options{key: shared, pings: deaf})
	for _, sender := range senders {
		t.Reach(sender, place)
	}
	for _, stop := range stops {
		old := place
		place = t.Login(options{key: shared, pings: deaf, at: stop.Name})
		began := time.Now()
		for _, sender := range senders {
			t.reachWithin(limit, sender, place)
		}
		elapsed := time.Since(began)
		t.Notef("%v", elapsed.Round(time.Millisecond))
		if elapsed > limit {
			t.Fatalf("reached from everywhere after %v, limit is %v", elapsed, limit)
		}
		old.Closed("left behind")
	}
}

// comingAndGoing: clients of all kinds come and go at every node for more than the
// 60 s after which silence would show; nobody else notices.
func comingAndGoing(t *T) {
	const duration, pause = 66 * time.Second, 100 * time.Millisecond
	var pairs []*background
	residents := t.everywhere(options{pings: answers})
	for i, resident := range residents {
		neighbour := residents[(i+1)%len(residents)]
		t.Reach(resident, neighbour)
		pairs = append(pairs, t.talking(resident, neighbour, pause))
	}
	prober := options{prober: true, pings: deaf, key: key.NewNode()}
	twins := t.everywhere(prober)
	kinds := []options{{}, {prober: true}, {pings: answers}, {prober: true, mesh: true}, {mesh: true, watch: true}}
	began, visits := time.Now(), 0
	for time.Since(began) < duration {
		kind := kinds[visits%len(kinds)]
		from, to := t.Nodes[visits%len(t.Nodes)], t.Nodes[(visits+1)%len(t.Nodes)]
		kind.at, kind.key = from.Name, key.NewNode()
		visitor := t.Login(kind)
		kind.at, kind.key = to.Name, key.NewNode()
		host := t.Login(kind)
		t.Reach(visitor, host)
		visitor.Leave()
		host.Leave()
		visits++
		t.Pause(pause)
	}
	for _, twin := range twins {
		twin.Speak()
	}
	for _, pair := range pairs {
		pair.Unharmed(t)
	}
	t.Notef("%d visits", visits)
}
