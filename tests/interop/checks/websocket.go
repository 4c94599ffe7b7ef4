package checks

import (
	"bufio"
	"net"
	"slices"
	"time"

	"github.com/coder/websocket"
	"tailscale.com/derp"
	"tailscale.com/net/wsconn"
	"tailscale.com/types/key"
)

// Both ends of Go's library refuse longer messages unless told otherwise.
const messageLimit = 32 << 10

// Web is a stock DERP client over WebSocket.
type Web struct {
	t      *T
	key    key.NodePrivate
	client *derp.Client
}

// LoginWeb connects over WebSocket, as browsers do. Messages that it sends have
// at most chunk bytes; it accepts longer ones than limit only if limit is negative.
func (t *T) LoginWeb(chunk int, limit int64) *Web {
	socket, response, err := websocket.Dial(t.ctx, "wss://"+t.region.Nodes[0].HostName+"/derp",
		&websocket.DialOptions{HTTPClient: t.webClient(), Subprotocols: []string{"derp"}})
	t.Must(err, "dialling")
	t.OnEnd(func() { socket.CloseNow() })
	if chosen := response.Header.Get("Sec-WebSocket-Protocol"); chosen != "derp" {
		t.Fatalf("subprotocol %q, expected derp", chosen)
	}
	socket.SetReadLimit(limit)
	conn := chunked{wsconn.NetConn(t.ctx, socket, websocket.MessageBinary, ""), chunk}
	buffered := bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn))
	private := key.NewNode()
	client, err := derp.NewClient(private, conn, buffered, logNothing)
	t.Must(err, "handshake")
	web := &Web{t, private, client}
	if message, err := client.Recv(); err != nil {
		t.Fatalf("instead of ServerInfo: %v", err)
	} else if _, ok := message.(derp.ServerInfoMessage); !ok {
		t.Fatalf("first message is %T, not ServerInfo", message)
	}
	return web
}

// chunked cuts what is written into messages of at most so many bytes.
type chunked struct {
	net.Conn
	chunk int
}

func (c chunked) Write(data []byte) (int, error) {
	for chunk := range slices.Chunk(data, c.chunk) {
		if _, err := c.Conn.Write(chunk); err != nil {
			return 0, err
		}
	}
	return len(data), nil
}

// relay passes a packet of each size to and fro.
func (w *Web) relay(other *Peer, sizes ...int) {
	for _, size := range sizes {
		data := payload(size, uint64(size))
		w.t.Must(w.client.Send(other.Public(), data), "sending %d bytes", size)
		packet := await[derp.ReceivedPacket](other, patience)
		if difference := compare(packet.Data, data); difference != "" || packet.Source != w.key.Public() {
			w.t.Fatalf("from WebSocket, %d bytes: %s", size, difference)
		}
		other.Send(w.key.Public(), data)
		message, err := w.client.Recv()
		w.t.Must(err, "to WebSocket, %d bytes", size)
		back, ok := message.(derp.ReceivedPacket)
		if !ok {
			w.t.Fatalf("to WebSocket: %T", message)
		}
		if difference := compare(back.Data, data); difference != "" || back.Source != other.Public() {
			w.t.Fatalf("to WebSocket, %d bytes: %s", size, difference)
		}
	}
}

func webSocket(t *T) {
	web, other := t.LoginWeb(messageLimit/2, -1), t.Distant()
	if t.Apart() {
		t.Pause(100 * time.Millisecond) // as derpprobe does
	}
	web.relay(other, 0, 1, 32, 1400, 32<<10, 64<<10)
}

// webSocketLimit: unlike derper, never send what the library's default refuses,
// and accept what derper refuses.
func webSocketLimit(t *T) {
	t.LoginWeb(1<<20, messageLimit).relay(t.Login(options{}), 32<<10, 64<<10)
}
