package checks

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"io"
	"math/big"
	"net"
	"sync"
	"time"

	"tailscale.com/tailcfg"
)

// Glass stands between a stock client and the relay, shows the client the relay's
// own meta certificate behind a leaf of its own, and writes down what both say.
type Glass struct {
	Region   *tailcfg.DERPRegion // leads a client here
	mu       sync.Mutex
	asked    bytes.Buffer // by the client
	answered bytes.Buffer // by the relay
}

// NewGlass serves one connection, with TLS up to this version on the client's side.
func (t *T) NewGlass(version uint16) *Glass {
	upstream := t.DialTLS()
	meta := metaCertificate(upstream.Conn.(*tls.Conn).ConnectionState())
	if meta == nil {
		t.Fatalf("no certificate named %s…", metaPrefix)
	}
	leaf := t.leaf()
	hash := sha256.Sum256(leaf.Certificate[0])
	leaf.Certificate = append(leaf.Certificate, meta)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{leaf},
		MaxVersion:   version,
	})
	t.Must(err, "listening")
	t.OnEnd(func() { listener.Close() })
	glass := &Glass{Region: t.Region("")}
	glass.lead(listener.Addr().(*net.TCPAddr).Port, hash[:], t.lib.Pins)
	go glass.serve(listener, upstream.Conn)
	return glass
}

// Asked is what the client said so far.
func (g *Glass) Asked() string { return g.said(&g.asked) }

// Answered is what the relay said so far.
func (g *Glass) Answered() string { return g.said(&g.answered) }

func (g *Glass) said(buffer *bytes.Buffer) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return buffer.String()
}

func (g *Glass) lead(port int, hash []byte, pins bool) {
	node := g.Region.Nodes[0].Clone()
	node.DERPPort, node.IPv4, node.IPv6 = port, "127.0.0.1", "none"
	node.CertName = ""
	if pins {
		node.CertName = pinPrefix + hex.EncodeToString(hash)
	} else {
		node.InsecureForTests = true
	}
	g.Region.Nodes[0] = node
}

func (g *Glass) serve(listener net.Listener, relay net.Conn) {
	client, err := listener.Accept()
	if err != nil {
		return
	}
	defer client.Close()
	defer relay.Close()
	go g.copy(relay, client, &g.asked)
	g.copy(client, relay, &g.answered)
}

// copy notes before it passes on: what one side has, the other has said.
func (g *Glass) copy(to io.Writer, from io.Reader, note *bytes.Buffer) {
	chunk := make([]byte, 1<<14)
	for {
		n, err := from.Read(chunk)
		g.mu.Lock()
		note.Write(chunk[:n])
		g.mu.Unlock()
		if _, writeErr := to.Write(chunk[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

func (t *T) leaf() tls.Certificate {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	t.Must(err, "making a key")
	host := t.region.Nodes[0].HostName
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: host},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	if address := net.ParseIP(host); address != nil {
		template.IPAddresses = []net.IP{address}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	t.Must(err, "making a certificate")
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}
}
