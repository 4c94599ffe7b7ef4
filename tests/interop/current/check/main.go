// Command check asks a relay what a stock Tailscale 1.104 client would.
package main

import (
	"derpmesh.test/interop/checks"
	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/types/key"
)

func main() {
	checks.Main(checks.Library{
		Version:    "1.104",
		Pins:       true,
		SetMeshKey: setMeshKey,
		Forward:    forward,
		SetAppName: func(client *derphttp.Client, name string) { client.AppName = name },
		AppName:    func(message derp.PeerPresentMessage) string { return message.AppName },
	})
}

func setMeshKey(client *derphttp.Client, hex string) (err error) {
	client.MeshKey, err = key.ParseDERPMesh(hex)
	return err
}

func forward(client *derphttp.Client, source, destination key.NodePublic, data []byte) error {
	return client.ForwardPacket(source, destination, derp.LoanBytes(data))
}
