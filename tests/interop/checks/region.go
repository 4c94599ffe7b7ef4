package checks

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"tailscale.com/tailcfg"
)

// Node is one relay in the document that "derpctl demo -o json" prints.
type Node struct {
	Name     string `json:"name"`
	Host     string `json:"host"`
	DERPPort int    `json:"derp_port"`
	HTTPPort int    `json:"http_port"`
	STUNPort int    `json:"stun_port"`
	Pin      string `json:"pin"`
	Admin    string `json:"admin"`
	PID      int    `json:"pid"`
}

// Demo is that document.
type Demo struct {
	Region      int    `json:"region"`
	MeshKeyFile string `json:"mesh_key_file"`
	MapFile     string `json:"derp_map_file"`
	CAFile      string `json:"ca_file"`
	Nodes       []Node `json:"nodes"`
}

// Target is the relay under test: what the document says, and the region as a
// client reads it from the map that the document names.
type Target struct {
	Node    Node
	MeshKey string
	region  *tailcfg.DERPRegion
}

// LoadTarget reads the document and what it names.
func LoadTarget(path string) (*Target, error) {
	var demo Demo
	if err := readJSON(path, &demo); err != nil {
		return nil, err
	}
	if len(demo.Nodes) == 0 {
		return nil, fmt.Errorf("%s: no nodes", path)
	}
	var derpMap tailcfg.DERPMap
	if err := readJSON(demo.MapFile, &derpMap); err != nil {
		return nil, err
	}
	region := regionByID(&derpMap, demo.Region)
	if region == nil || len(region.Nodes) == 0 {
		return nil, fmt.Errorf("%s: no nodes in region %d", demo.MapFile, demo.Region)
	}
	meshKey, err := os.ReadFile(demo.MeshKeyFile)
	if err != nil {
		return nil, err
	}
	return &Target{demo.Nodes[0], strings.TrimSpace(string(meshKey)), region}, nil
}

// Pinned tells whether clients know the relay by the hash of its certificate.
func (t *Target) Pinned() bool {
	return strings.HasPrefix(t.region.Nodes[0].CertName, pinPrefix)
}

// Region is a copy of the region, for a check to change.
func (t *Target) Region() *tailcfg.DERPRegion {
	region := t.region.Clone()
	region.Nodes = slices.Clone(region.Nodes[:1])
	return region
}

// regionByID looks by value: the type of a region's id differs between releases.
func regionByID(derpMap *tailcfg.DERPMap, wanted int) *tailcfg.DERPRegion {
	for id, region := range derpMap.Regions {
		if int(id) == wanted {
			return region
		}
	}
	return nil
}

func readJSON(path string, into any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
