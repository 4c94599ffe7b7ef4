package checks

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

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

// Document is a region as its document and the map that it names describe it.
type Document struct {
	demo    Demo
	meshKey string
	region  *tailcfg.DERPRegion
}

// Load reads the document and what it names.
func Load(path string) (*Document, error) {
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
	if region == nil {
		return nil, fmt.Errorf("%s: no region %d", demo.MapFile, demo.Region)
	}
	meshKey, err := os.ReadFile(demo.MeshKeyFile)
	if err != nil {
		return nil, err
	}
	return &Document{demo, strings.TrimSpace(string(meshKey)), region}, nil
}

// pairs is every ordered pair of nodes, the diagonal included.
func (d *Document) pairs() (pairs [][2]string) {
	for _, near := range d.demo.Nodes {
		for _, far := range d.demo.Nodes {
			pairs = append(pairs, [2]string{near.Name, far.Name})
		}
	}
	return pairs
}

// Target is what a check is about: one relay, or an ordered pair of them.
type Target struct {
	Node    Node          // the relay under test; of a pair, where the sender is
	Far     Node          // of a pair, where the receiver is; often the same
	Relink  time.Duration // how long a lost link may take to be back
	Nodes   []Node
	MeshKey string
	region  *tailcfg.DERPRegion // with no node but the one under test
	regions map[string]*tailcfg.DERPRegion
}

// Target is a pair of the region's nodes, by their names; the first if near is
// empty, and a pair of one and the same if far is.
func (d *Document) Target(near, far string) (*Target, error) {
	if near == "" {
		near = d.demo.Nodes[0].Name
	}
	if far == "" {
		far = near
	}
	target := &Target{Nodes: d.demo.Nodes, MeshKey: d.meshKey, regions: map[string]*tailcfg.DERPRegion{}}
	for _, mapped := range d.region.Nodes {
		alone := d.region.Clone()
		alone.Nodes = []*tailcfg.DERPNode{mapped}
		target.regions[mapped.Name] = alone
	}
	var err error
	if target.Node, err = target.named(near); err != nil {
		return nil, err
	}
	target.Far, err = target.named(far)
	target.region = target.regions[near]
	return target, err
}

func (t *Target) named(name string) (Node, error) {
	at := slices.IndexFunc(t.Nodes, func(node Node) bool { return node.Name == name })
	if at < 0 || t.regions[name] == nil {
		return Node{}, fmt.Errorf("no node is called %q", name)
	}
	return t.Nodes[at], nil
}

// Apart tells whether the pair is of two different nodes.
func (t *Target) Apart() bool { return t.Node.Name != t.Far.Name }

// Pinned tells whether clients know the relay by the hash of its certificate.
func (t *Target) Pinned() bool {
	return strings.HasPrefix(t.region.Nodes[0].CertName, pinPrefix)
}

// Region is a copy of the region, for a check to change, with one node: the one of
// this name, or the one under test.
func (t *Target) Region(name string) *tailcfg.DERPRegion {
	if name == "" {
		name = t.Node.Name
	}
	return t.regions[name].Clone()
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
