package checks

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"go4.org/mem"
	"tailscale.com/derp/derphttp"
	"tailscale.com/types/key"
)

// Frame types, by their names in the protocol.
const (
	frameServerKey     = 0x01
	frameClientInfo    = 0x02
	frameServerInfo    = 0x03
	frameSendPacket    = 0x04
	frameRecvPacket    = 0x05
	frameNotePreferred = 0x07
	framePing          = 0x12
	framePong          = 0x13
)

const (
	magic       = "DERP🔑"
	pinPrefix   = "sha256-raw:"
	metaPrefix  = "derpkey"
	headerBytes = 5
)

// frame is a whole frame: type, length, payload.
func frame(kind byte, payload []byte) []byte {
	return append(frameHeader(kind, uint32(len(payload))), payload...)
}

// frameHeader may promise more than comes.
func frameHeader(kind byte, size uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{kind}, size)
}

// Raw is a connection spoken by hand, for what a stock client would never say.
// Its TLS is verified as a stock client does.
type Raw struct {
	net.Conn
	t      *T
	reader *bufio.Reader
	server key.NodePublic
}

// DialTLS connects and does no more.
func (t *T) DialTLS() *Raw {
	client := derphttp.NewNetcheckClient(logNothing, t.monitor)
	conn, _, _, err := client.DialRegionTLS(t.ctx, t.Region(""))
	t.Must(err, "dialling")
	return t.raw(conn)
}

func (t *T) raw(conn net.Conn) *Raw {
	t.OnEnd(func() { conn.Close() })
	return &Raw{Conn: conn, t: t, reader: bufio.NewReader(conn)}
}

// Upgrade connects up to the server's key: the relay waits for ClientInfo.
func (t *T) Upgrade() *Raw {
	raw := t.DialTLS()
	raw.Say([]byte(raw.request("Upgrade: DERP\r\nConnection: Upgrade\r\n")))
	response, err := http.ReadResponse(raw.reader, nil)
	t.Must(err, "reading the answer to the upgrade")
	if response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the upgrade is answered by %s", response.Status)
	}
	raw.server = raw.serverKey()
	return raw
}

// LoginRaw logs a client in by hand.
func (t *T) LoginRaw(private key.NodePrivate) *Raw {
	raw := t.Upgrade()
	raw.Say(frame(frameClientInfo, raw.clientInfo(private, `{"version":2}`)))
	if kind, _, err := raw.ReadFrame(); err != nil || kind != frameServerInfo {
		t.Fatalf("after ClientInfo: frame %#02x, %v", kind, err)
	}
	return raw
}

func (r *Raw) request(headers string) string {
	host := r.t.region.Nodes[0].HostName
	return "GET /derp HTTP/1.1\r\nHost: " + host + "\r\n" + headers + "\r\n"
}

func (r *Raw) clientInfo(private key.NodePrivate, json string) []byte {
	public := private.Public().AppendTo(nil)
	return append(public, private.SealTo(r.server, []byte(json))...)
}

func (r *Raw) serverKey() key.NodePublic {
	kind, payload, err := r.ReadFrame()
	r.t.Must(err, "reading ServerKey")
	if kind != frameServerKey || len(payload) < 40 || !bytes.HasPrefix(payload, []byte(magic)) {
		r.t.Fatalf("not a ServerKey: frame %#02x of %d bytes", kind, len(payload))
	}
	return key.NodePublicFromRaw32(mem.B(payload[len(magic):40]))
}

// Say writes bytes as they are.
func (r *Raw) Say(data []byte) {
	_, err := r.Write(data)
	r.t.Must(err, "writing %d bytes", len(data))
}

// ReadFrame is the next frame, or why there is none.
func (r *Raw) ReadFrame() (byte, []byte, error) {
	r.SetReadDeadline(time.Now().Add(patience))
	var header [headerBytes]byte
	if _, err := io.ReadFull(r.reader, header[:]); err != nil {
		return 0, nil, err
	}
	payload := make([]byte, binary.BigEndian.Uint32(header[1:]))
	_, err := io.ReadFull(r.reader, payload)
	return header[0], payload, err
}

// AwaitFrame is the payload of the next frame of a type.
func (r *Raw) AwaitFrame(wanted byte) []byte {
	for {
		kind, payload, err := r.ReadFrame()
		r.t.Must(err, "waiting for frame %#02x", wanted)
		if kind == wanted {
			return payload
		}
	}
}

// Ended is what the relay still said before it ended the connection.
func (r *Raw) Ended(why string) string {
	r.SetReadDeadline(time.Now().Add(patience))
	said, err := io.ReadAll(r.reader)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		r.t.Fatalf("%s: the connection is still open", why)
	}
	return string(said)
}

// metaCertificate is the certificate that carries the relay's key; nil if none does.
func metaCertificate(state tls.ConnectionState) []byte {
	for _, certificate := range state.PeerCertificates {
		if strings.HasPrefix(certificate.Subject.CommonName, metaPrefix) {
			return certificate.Raw
		}
	}
	return nil
}

type rawFrame struct {
	kind    byte
	payload []byte
}

// Frames is everything that comes from now on.
func (r *Raw) Frames() <-chan rawFrame {
	frames := make(chan rawFrame, 1<<10)
	go func() {
		defer close(frames)
		for {
			kind, payload, err := r.ReadFrame()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				continue
			}
			if err != nil {
				return
			}
			frames <- rawFrame{kind, payload}
		}
	}()
	return frames
}
