package checks

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"tailscale.com/derp/derphttp"
	"tailscale.com/net/stun"
)

func connect(t *T) {
	first, second := t.Login(options{}), t.Login(options{})
	if first.client.ServerPublicKey() != second.client.ServerPublicKey() {
		t.Fatalf("two connections see two server keys")
	}
	state, ok := first.client.TLSConnectionState()
	if !ok || state.Version != tls.VersionTLS13 {
		t.Fatalf("TLS version %#04x, expected 1.3", state.Version)
	}
	chain := state.PeerCertificates
	if last := chain[len(chain)-1].Subject.CommonName; !strings.HasPrefix(last, metaPrefix) {
		t.Fatalf("the last certificate is %q, not the meta certificate", last)
	}
}

func pinRight(t *T) {
	state := t.DialTLS().Conn.(*tls.Conn).ConnectionState()
	hash := sha256.Sum256(state.PeerCertificates[0].Raw)
	if pin := pinPrefix + hex.EncodeToString(hash[:]); t.Node.Pin != pin {
		t.Fatalf("the document's pin is %q, the certificate's %q", t.Node.Pin, pin)
	}
	if mapped := t.region.Nodes[0].CertName; mapped != t.Node.Pin {
		t.Fatalf("the map's CertName is %q, the document's pin %q", mapped, t.Node.Pin)
	}
	t.Login(options{})
}

func pinWrong(t *T) {
	digits := []byte(strings.TrimPrefix(t.Node.Pin, pinPrefix))
	if digits[0]++; digits[0] > '9' && digits[0] < 'a' || digits[0] > 'f' {
		digits[0] = '0'
	}
	t.refusePin(string(digits))
}

func pinUpperCase(t *T) {
	t.refusePin(strings.ToUpper(strings.TrimPrefix(t.Node.Pin, pinPrefix)))
}

func (t *T) refusePin(digits string) {
	region := t.Region("")
	region.Nodes[0] = region.Nodes[0].Clone()
	region.Nodes[0].CertName = pinPrefix + digits
	_, err := t.TryLogin(options{region: region})
	if err == nil {
		t.Fatalf("connected with the pin %s", digits)
	}
	t.Notef("%v", err)
}

// fastStart: no byte of HTTP comes back, the first frame opens the stream.
func fastStart(t *T) {
	glass := t.NewGlass(tls.VersionTLS13)
	t.Login(options{region: glass.Region})
	if !strings.Contains(glass.Asked(), "\r\nDerp-Fast-Start: 1\r\n") {
		t.Fatalf("the client did not ask for fast start: %q", head(glass.Asked()))
	}
	if answer := glass.Answered(); !strings.HasPrefix(answer, "\x01\x00\x00\x00\x28"+magic) {
		t.Fatalf("not ServerKey at once: %q", head(answer))
	}
}

// noFastStart: below TLS 1.3 the client waits for the 101, and its bytes are exact.
func noFastStart(t *T) {
	glass := t.NewGlass(tls.VersionTLS12)
	peer := t.Login(options{region: glass.Region})
	if strings.Contains(glass.Asked(), "Fast-Start") {
		t.Fatalf("the client asked for fast start: %q", head(glass.Asked()))
	}
	expected := "HTTP/1.1 101 Switching Protocols\r\n" +
		"Upgrade: DERP\r\n" +
		"Connection: Upgrade\r\n" +
		"Derp-Version: 2\r\n" +
		"Derp-Public-Key: " + peer.client.ServerPublicKey().UntypedHexString() + "\r\n" +
		"\r\n" +
		"\x01\x00\x00\x00\x28" + magic
	if answer := glass.Answered(); !strings.HasPrefix(answer, expected) {
		t.Fatalf("got %q, expected %q", head(answer), expected)
	}
}

func head(said string) string { return said[:min(len(said), 300)] }

func oldTLS(t *T) {
	limit := func(c *derphttp.Client) { c.TLSConfig = &tls.Config{MaxVersion: tls.VersionTLS12} }
	old, other := t.Login(options{adjust: limit}), t.Login(options{})
	if state, _ := old.client.TLSConnectionState(); state.Version != tls.VersionTLS12 {
		t.Fatalf("TLS version %#04x, expected 1.2", state.Version)
	}
	t.bothWays(old, other, 1400)
}

// latencyCheck is how clients measure where UDP is blocked.
func latencyCheck(t *T) {
	for _, path := range []string{"/derp/latency-check", "/derp/probe"} {
		raw := t.DialTLS()
		began := time.Now()
		raw.Say([]byte("GET " + path + " HTTP/1.1\r\nHost: " + t.region.Nodes[0].HostName + "\r\n\r\n"))
		response, err := http.ReadResponse(raw.reader, nil)
		t.Must(err, path)
		origin := response.Header.Get("Access-Control-Allow-Origin")
		if response.StatusCode != http.StatusOK || origin != "*" {
			t.Fatalf("%s: %s, allowed origin %q", path, response.Status, origin)
		}
		t.Notef("%s in %v", path, time.Since(began).Round(time.Microsecond))
	}
}

// captivePortal is how clients tell the relay from a hotel's login page.
func captivePortal(t *T) {
	url := fmt.Sprintf("http://%s/generate_204?t=1", net.JoinHostPort(host(t.Address()), fmt.Sprint(t.Node.HTTPPort)))
	request, err := http.NewRequestWithContext(t.ctx, http.MethodGet, url, nil)
	t.Must(err, "request")
	request.Header.Set("X-Tailscale-Challenge", "ts_127.0.0.1")
	response, err := http.DefaultTransport.RoundTrip(request)
	t.Must(err, "asking")
	defer response.Body.Close()
	answer := response.Header.Get("X-Tailscale-Response")
	if response.StatusCode != http.StatusNoContent || answer != "response ts_127.0.0.1" {
		t.Fatalf("%s, answer %q", response.Status, answer)
	}
}

func stunAnswer(t *T) {
	server := net.JoinHostPort(host(t.Address()), fmt.Sprint(t.Node.STUNPort))
	if mapped := t.region.Nodes[0].STUNPort; mapped != t.Node.STUNPort {
		t.Fatalf("the map's STUN port is %d, the document's %d", mapped, t.Node.STUNPort)
	}
	conn, err := net.Dial("udp", server)
	t.Must(err, "dialling")
	defer conn.Close()
	id := stun.NewTxID()
	_, err = conn.Write(stun.Request(id))
	t.Must(err, "asking")
	conn.SetReadDeadline(time.Now().Add(patience))
	answer := make([]byte, 1500)
	n, err := conn.Read(answer)
	t.Must(err, "waiting for the answer")
	got, mapped, err := stun.ParseResponse(answer[:n])
	t.Must(err, "answer of %d bytes", n)
	if got != id || mapped.String() != conn.LocalAddr().String() {
		t.Fatalf("answered %v for %v", mapped, conn.LocalAddr())
	}
}

func host(address string) string {
	name, _, _ := net.SplitHostPort(address)
	return name
}

// webClient dials as Go's WebSocket library wants it, to this relay, its
// certificate verified as a stock client does.
func (t *T) webClient() *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		client := derphttp.NewNetcheckClient(logNothing, t.monitor)
		conn, _, _, err := client.DialRegionTLS(ctx, t.Region(""))
		return conn, err
	}
	return &http.Client{Transport: &http.Transport{DialTLSContext: dial}}
}
