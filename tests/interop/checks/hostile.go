package checks

import (
	"bytes"
	"math"
	"net"
	"strings"
	"time"

	"tailscale.com/types/key"
)

// malformed input ends its own connection and harms nobody else.
func malformed(t *T) {
	pair := t.Bystanders()
	t.nonsense()
	t.badRequests()
	t.badGreetings()
	t.badFrames()
	t.torn()
	pair.Unharmed(t)
	t.Login(options{})
}

// nonsense is what is not even TLS.
func (t *T) nonsense() {
	raw := t.raw(t.dialTCP())
	raw.Say([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	if said := raw.Ended("HTTP on the TLS port"); !strings.HasPrefix(said, "HTTP/1.0 400 ") {
		t.Fatalf("HTTP on the TLS port is answered by %q", head(said))
	}
	raw = t.raw(t.dialTCP())
	raw.Say(payload(1<<10, 1))
	raw.Ended("random bytes")
}

func (t *T) dialTCP() net.Conn {
	conn, err := net.DialTimeout("tcp", t.Address(), patience)
	t.Must(err, "dialling")
	return conn
}

func (t *T) badRequests() {
	for what, said := range map[string]string{
		"no request at all":  "\x00\x01\x02\x03\r\n\r\n",
		"no host":            "GET /derp HTTP/1.1\r\nUpgrade: DERP\r\n\r\n",
		"a space in a field": "GET /derp HTTP/1.1\r\nHost: x\r\nUp grade: DERP\r\n\r\n",
		"another protocol":   "SSH-2.0-OpenSSH_9.9\r\n\r\n",
	} {
		raw := t.DialTLS()
		raw.Say([]byte(said))
		if answer := raw.Ended(what); !strings.HasPrefix(answer, "HTTP/1.1 400 ") {
			t.Fatalf("%s is answered by %q", what, head(answer))
		}
	}
	raw := t.DialTLS()
	raw.Say([]byte(raw.request("Upgrade: cheese\r\n")))
	answer := make([]byte, 64)
	n, err := raw.Read(answer)
	t.Must(err, "reading")
	if !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 426 ") {
		t.Fatalf("an unknown upgrade is answered by %q", answer[:n])
	}
}

// badGreetings come in place of ClientInfo.
func (t *T) badGreetings() {
	zero := append(make([]byte, 32), payload(60, 1)...)
	for what, said := range map[string][]byte{
		"a ping first":           frame(framePing, make([]byte, 8)),
		"a ClientInfo too short": frame(frameClientInfo, make([]byte, 55)),
		"a box of noise":         frame(frameClientInfo, payload(100, 1)),
		"a key of zeros":         frame(frameClientInfo, zero),
		"a ClientInfo too long":  frameHeader(frameClientInfo, 256<<10+1),
		"the longest ClientInfo": frameHeader(frameClientInfo, math.MaxUint32),
	} {
		raw := t.Upgrade()
		raw.Say(said)
		raw.Ended(what)
	}
	for _, info := range []string{"", "[]", "{", `{"version":"2"}`, `{"meshKey":"12"}`} {
		raw := t.Upgrade()
		raw.Say(frame(frameClientInfo, raw.clientInfo(key.NewNode(), info)))
		if said := raw.Ended("the ClientInfo " + info); said != "" {
			t.Fatalf("the ClientInfo %q is answered by %q", info, said)
		}
	}
}

// badFrames come from a client that is logged in.
func (t *T) badFrames() {
	for what, said := range map[string][]byte{
		"a packet without a key":     frame(frameSendPacket, make([]byte, 31)),
		"a packet too long":          append(frameHeader(frameSendPacket, 32+65536+1), make([]byte, 32)...),
		"a ping too short":           frame(framePing, make([]byte, 7)),
		"a ping too long":            frame(framePing, make([]byte, 1001)),
		"NotePreferred of no bytes":  frame(frameNotePreferred, nil),
		"NotePreferred of two bytes": frame(frameNotePreferred, make([]byte, 2)),
		"an unknown frame too long":  frameHeader(0x7f, 65568+1),
	} {
		raw := t.LoginRaw(key.NewNode())
		raw.Say(said)
		raw.Ended(what)
	}
	raw := t.LoginRaw(key.NewNode())
	raw.Say(frame(0x7f, make([]byte, 65568)))
	raw.Say(frame(framePing, []byte("still up")))
	if pong := raw.AwaitFrame(framePong); !bytes.Equal(pong, []byte("still up")) {
		t.Fatalf("after the longest unknown frame: pong %q", pong)
	}
}

// torn connections end in the middle of something, some by a reset.
func (t *T) torn() {
	for cut := range 3 {
		for _, reset := range []bool{false, true} {
			conn := t.dialTCP()
			raw := t.raw(conn)
			switch cut {
			case 0:
				raw.Say([]byte{0x16, 0x03, 0x01})
			case 1:
				raw = t.DialTLS()
				raw.Say([]byte("GET /derp HT"))
			case 2:
				raw = t.LoginRaw(key.NewNode())
				raw.Say(append(frameHeader(frameSendPacket, 1000), 1, 2, 3))
			}
			tear(raw.Conn, reset)
			conn.Close()
		}
	}
	t.Login(options{})
}

func tear(conn net.Conn, reset bool) {
	if under, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = under.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		tcp.SetLinger(0)
	}
	conn.SetDeadline(time.Now())
	conn.Close()
}
