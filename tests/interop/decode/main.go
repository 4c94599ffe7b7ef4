// Command decode reads DERP maps with the types of Tailscale 1.102.
package main

import (
	"os"

	"derpmesh.test/interop/maps"
)

func main() {
	os.Exit(maps.Main(os.Stdin, os.Stdout, os.Stderr))
}
