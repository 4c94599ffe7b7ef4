// Command check asks a relay what a stock Tailscale 1.80 client would.
package main

import (
	"derpmesh.test/interop/checks"
	"tailscale.com/derp/derphttp"
	"tailscale.com/types/key"
)

func main() {
	checks.Main(checks.Library{
		Version:    "1.80",
		SetMeshKey: setMeshKey,
		Forward:    forward,
	})
}

func setMeshKey(client *derphttp.Client, hex string) error {
	client.MeshKey = hex
	return nil
}

func forward(client *derphttp.Client, source, destination key.NodePublic, data []byte) error {
	return client.ForwardPacket(source, destination, data)
}
