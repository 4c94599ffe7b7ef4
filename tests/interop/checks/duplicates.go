package checks

import (
	"time"

	"tailscale.com/types/key"
)

// newestIsActive: a second connection of a key takes over; the first stays.
func newestIsActive(t *T) {
	shared, sender := key.NewNode(), t.Login(options{})
	first := t.Login(options{key: shared})
	t.pass(sender, first)
	second := t.Login(options{key: shared})
	sender.Send(shared.Public(), payload(100, 2))
	second.Expect(sender, payload(100, 2))
	first.Speak()
	sender.Send(shared.Public(), payload(100, 3))
	first.Expect(sender, payload(100, 3)) // its next packet: the second's never came here
	second.Speak()
	sender.Send(shared.Public(), payload(100, 4))
	second.Expect(sender, payload(100, 4))
}

// speakerIsActive: whatever the older says, even what nobody understands.
func speakerIsActive(t *T) {
	shared, sender := key.NewNode(), t.Login(options{})
	older := t.LoginRaw(shared)
	frames := older.Frames()
	newer := t.Login(options{key: shared})
	to := stranger()
	said := map[string][]byte{
		"a ping":            frame(framePing, make([]byte, 8)),
		"a pong":            frame(framePong, make([]byte, 8)),
		"NotePreferred":     frame(frameNotePreferred, []byte{1}),
		"a packet":          frame(frameSendPacket, append(to.AppendTo(nil), "hello"...)),
		"an unknown frame":  frame(0x7f, []byte("what?")),
		"a second greeting": frame(frameClientInfo, make([]byte, 56)),
	}
	for what, bytes := range said {
		newer.Speak()
		t.pass(sender, newer)
		older.Say(bytes)
		t.Eventually("the older is active after "+what, patience, func() bool {
			sender.Send(shared.Public(), payload(10, 1))
			return receives(frames, 20*time.Millisecond)
		})
		newer.Speak()
		t.drain(sender, newer)
	}
}

func receives(frames <-chan rawFrame, within time.Duration) bool {
	for {
		select {
		case frame := <-frames:
			if frame.kind == frameRecvPacket {
				return true
			}
		case <-time.After(within):
			return false
		}
	}
}

// survivorTakesOver: when the active one leaves, the one that spoke last follows.
func survivorTakesOver(t *T) {
	shared, sender := key.NewNode(), t.Login(options{})
	first := t.Login(options{key: shared})
	second := t.Login(options{key: shared})
	third := t.Login(options{key: shared})
	first.Speak()
	t.pass(sender, first)
	first.Leave()
	t.Reach(sender, third)
	third.Leave()
	t.Reach(sender, second)
}

// duplicatesDisturbNobody: others talk on while connections of a key come and go.
func duplicatesDisturbNobody(t *T) {
	pair := t.Bystanders()
	shared := key.NewNode()
	oldest := t.Login(options{key: shared})
	for range 20 {
		newer := t.Login(options{key: shared})
		oldest.Speak()
		newer.Speak()
		newer.Leave()
	}
	pair.Unharmed(t)
}
