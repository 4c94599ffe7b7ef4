package checks

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"time"

	"tailscale.com/derp"
)

// payload is arbitrary data that tells itself from any other.
func payload(size int, seed uint64) []byte {
	data := make([]byte, size)
	source := rand.NewPCG(seed, 0x64657270)
	for i := 0; i+8 <= size; i += 8 {
		binary.LittleEndian.PutUint64(data[i:], source.Uint64())
	}
	for i := size &^ 7; i < size; i++ {
		data[i] = byte(source.Uint64())
	}
	return data
}

// discoPayload looks like path discovery to the relay from 62 bytes on.
func discoPayload(size int, seed uint64) []byte {
	data := payload(size, seed)
	copy(data, "TS💬")
	return data
}

func (t *T) bothWays(a, b *Peer, sizes ...int) {
	for _, size := range sizes {
		there, back := payload(size, uint64(2*size)), payload(size, uint64(2*size+1))
		a.Send(b.Public(), there)
		b.Expect(a, there)
		b.Send(a.Public(), back)
		a.Expect(b, back)
	}
}

// acquainted is a client at either node of the pair, each of which reaches the other.
func (t *T) acquainted() (near, distant *Peer) {
	near, distant = t.Near(), t.Distant()
	t.Reach(near, distant)
	t.Reach(distant, near)
	return near, distant
}

func sizes(t *T) {
	near, distant := t.acquainted()
	t.bothWays(near, distant, 0, 1, 31, 32, 33, 1400, 65535, 65536)
}

func toOneself(t *T) {
	peer := t.Login(options{})
	for _, size := range []int{0, 1400, 65536} {
		data := payload(size, 7)
		peer.Send(peer.Public(), data)
		peer.Expect(peer, data)
	}
}

// order: in flight are no more than the 32 that derper queues.
func order(packets int) func(*T) {
	sizeOf := func(i int) int { return 8 + (i*i*31+i*7)%1393 }
	return func(t *T) {
		near, distant := t.acquainted()
		t.stream(near, distant, packets, 32, sizeOf)
	}
}

// bulk is what derpprobe sends, which must come whole.
func bulk(packets int) func(*T) {
	sizeOf := func(int) int { return derp.MaxPacketSize }
	return func(t *T) {
		near, distant := t.acquainted()
		t.stream(near, distant, packets, 30, sizeOf)
	}
}

// stream sends packets with so many in flight; each must come, unharmed, in order.
func (t *T) stream(from, to *Peer, packets, inFlight int, sizeOf func(int) int) {
	began, total := time.Now(), 0
	room := make(chan struct{}, inFlight)
	failed := make(chan error, 1)
	done := make(chan struct{})
	defer close(done)
	go func() {
		for i := range packets {
			select {
			case room <- struct{}{}:
			case <-done:
				return
			}
			if err := from.client.Send(to.Public(), payload(sizeOf(i), uint64(i))); err != nil {
				failed <- err
				return
			}
		}
	}()
	for i := range packets {
		data := payload(sizeOf(i), uint64(i))
		packet, err := to.nextPacket()
		if err != nil {
			select {
			case err = <-failed:
			default:
			}
			t.Fatalf("packet %d of %d: %v", i, packets, err)
		}
		if difference := compare(packet.Data, data); difference != "" || packet.Source != from.Public() {
			t.Fatalf("packet %d of %d, %d bytes: %s", i, packets, len(data), difference)
		}
		total += len(data)
		<-room
	}
	elapsed := time.Since(began)
	t.Notef("%d packets, %.1f MB in %.2f s", packets, float64(total)/1e6, elapsed.Seconds())
}

func (p *Peer) nextPacket() (derp.ReceivedPacket, error) { return p.packetWithin(patience) }

// packetWithin is the next packet; whatever else comes before it is let go.
func (p *Peer) packetWithin(limit time.Duration) (derp.ReceivedPacket, error) {
	deadline := time.Now().Add(limit)
	for {
		message, err := p.next(time.Until(deadline))
		if err != nil {
			return derp.ReceivedPacket{}, err
		}
		if packet, ok := message.(derp.ReceivedPacket); ok {
			return packet, nil
		}
	}
}

// Reach sends until a packet comes, and returns how long that took: other nodes hear
// of a login later than its client, and nobody is told when a duplicate has left.
// Nothing is on its way any more when it returns.
func (t *T) Reach(from, to *Peer) time.Duration { return t.reachWithin(patience, from, to) }

func (t *T) reachWithin(limit time.Duration, from, to *Peer) time.Duration {
	began := time.Now()
	for {
		from.Send(to.Public(), payload(10, 1))
		if _, err := to.packetWithin(5 * time.Millisecond); err == nil {
			break
		} else if !errors.Is(err, errSilence) {
			t.Fatalf("waiting to be reached: %v", err)
		}
		if time.Since(began) > limit {
			t.Fatalf("not reached within %v", limit)
		}
	}
	elapsed := time.Since(began)
	t.drain(from, to)
	return elapsed
}

// drain lets go of what still comes to this connection, up to a marker.
func (t *T) drain(from, to *Peer) {
	marker := payload(64, uint64(time.Now().UnixNano()))
	from.Send(to.Public(), marker)
	for {
		packet, err := to.nextPacket()
		t.Must(err, "draining")
		if compare(packet.Data, marker) == "" {
			return
		}
	}
}

// background is a pair that keeps talking while a check does its worst.
type background struct {
	from, to *Peer
	pause    time.Duration // between two bursts
	stop     chan struct{}
	result   chan outcome
}

type outcome struct {
	packets int
	err     error
}

// Bystanders starts such a pair, which talks as fast as it can.
func (t *T) Bystanders() *background { return t.talking(t.Near(), t.Near(), 0) }

func (t *T) talking(from, to *Peer, pause time.Duration) *background {
	pair := &background{from, to, pause, make(chan struct{}), make(chan outcome, 1)}
	go func() { pair.result <- pair.talk() }()
	return pair
}

// talk goes to and fro, several packets a time, and checks every one.
func (b *background) talk() outcome {
	const together = 8
	for count := 0; ; {
		select {
		case <-b.stop:
			return outcome{count, nil}
		case <-time.After(b.pause):
		}
		for i := range together {
			if err := b.from.client.Send(b.to.Public(), payload(200, uint64(count+i))); err != nil {
				return outcome{count, err}
			}
		}
		for range together {
			packet, err := b.to.nextPacket()
			if err != nil {
				return outcome{count, err}
			}
			if difference := compare(packet.Data, payload(200, uint64(count))); difference != "" {
				return outcome{count, failureError(difference)}
			}
			count++
		}
	}
}

type failureError string

func (f failureError) Error() string { return string(f) }

// Unharmed ends the pair's talk; nothing of it may have been lost.
func (b *background) Unharmed(t *T) {
	close(b.stop)
	result := <-b.result
	if result.err != nil {
		t.Fatalf("a bystander's packet %d: %v", result.packets, result.err)
	}
	t.Notef("bystanders: %d packets, none lost", result.packets)
}
