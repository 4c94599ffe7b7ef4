// Package maps reads DERP maps as their consumers do, and nothing that they would not.
package maps

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/tailscale/hujson"
	"gopkg.in/yaml.v3"
	"tailscale.com/tailcfg"
)

// A document is one map as text, and whom it is meant for.
type document struct {
	Format string
	Text   string
}

// A verdict has what the text says, or why it says nothing. That is a DERPMap, or for
// terraform whatever its locals are.
type verdict struct {
	Value json.RawMessage `json:"value,omitempty"`
	Error string          `json:"error,omitempty"`
}

var readers = map[string]func([]byte) (any, error){
	"derpmap":   readDerpMap,
	"acl":       readPolicy,
	"headscale": readHeadscale,
	"terraform": readLocals,
}

// Main reads documents as JSON, one after the other, and writes as many verdicts, one a
// line. It returns what the process is to end with.
func Main(input io.Reader, output, complaints io.Writer) int {
	decoder := json.NewDecoder(input)
	decoder.DisallowUnknownFields()
	encoder := json.NewEncoder(output)
	for {
		var found document
		err := decoder.Decode(&found)
		if errors.Is(err, io.EOF) {
			return 0
		}
		if err == nil {
			err = encoder.Encode(judge(found))
		}
		if err != nil {
			fmt.Fprintln(complaints, "decode:", err)
			return 1
		}
	}
}

func judge(found document) verdict {
	read, ok := readers[found.Format]
	if !ok {
		return verdict{Error: "no format is called " + found.Format}
	}
	value, err := read([]byte(found.Text))
	if err != nil {
		return verdict{Error: err.Error()}
	}
	written, err := json.Marshal(value)
	if err != nil {
		return verdict{Error: err.Error()}
	}
	return verdict{Value: written}
}

// readDerpMap reads what is served over HTTP.
func readDerpMap(text []byte) (any, error) {
	derpMap := new(tailcfg.DERPMap)
	return derpMap, strictly(text, derpMap)
}

// readPolicy reads a policy file that has nothing but a map.
func readPolicy(text []byte) (any, error) {
	standard, err := hujson.Standardize(text)
	if err != nil {
		return nil, err
	}
	policy := new(struct{ DERPMap *tailcfg.DERPMap })
	err = strictly(standard, policy)
	return policy.DERPMap, err
}

// strictly reads one JSON value and refuses fields that the type has not.
func strictly(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the value")
	}
	return nil
}

// readHeadscale reads a file of derp.paths with the library that headscale has.
func readHeadscale(text []byte) (any, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	derpMap := new(tailcfg.DERPMap)
	return derpMap, decoder.Decode(derpMap)
}
