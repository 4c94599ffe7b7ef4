package checks

import (
	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/types/key"
)

// Library is what one release of the client library does in its own way.
type Library struct {
	// Version is the release of tailscale.com that this driver is built with.
	Version string

	// Pins tells whether clients of this release know "sha256-raw:" in CertName.
	Pins bool

	// SetMeshKey gives a client the mesh key, 64 hex digits.
	SetMeshKey func(client *derphttp.Client, hex string) error

	// Forward sends a packet on behalf of source, as a mesh peer does.
	Forward func(client *derphttp.Client, source, destination key.NodePublic, data []byte) error

	// SetAppName makes a client introduce itself; nil where clients have no names.
	SetAppName func(client *derphttp.Client, name string)

	// AppName reads the name that a watcher was told; nil where it is not told.
	AppName func(message derp.PeerPresentMessage) string
}
