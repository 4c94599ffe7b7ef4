package checks

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"tailscale.com/net/netmon"
)

const (
	exitFailed = 1
	exitUsage  = 2
)

// verdict is one line of output.
type verdict struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// Main runs the checks that the command line asks for and exits.
func Main(lib Library) {
	region := flag.String("region", "", "`file` with the JSON document of derpctl demo")
	names := flag.String("run", "", "`names` of checks, comma-separated; all that apply if empty")
	list := flag.Bool("list", false, "print the names of all checks")
	flag.Parse()
	if *list {
		for _, one := range catalogue {
			fmt.Println(one.name)
		}
		return
	}
	target, err := LoadTarget(*region)
	exitIf(err)
	chosen, err := choose(*names, target, lib)
	exitIf(err)
	if !runAll(chosen, target, lib) {
		os.Exit(exitFailed)
	}
}

func exitIf(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitUsage)
	}
}

func choose(names string, target *Target, lib Library) ([]check, error) {
	if names == "" {
		unasked := func(c check) bool { return c.needs.asked || c.unmet(target, lib) != "" }
		return slices.DeleteFunc(slices.Clone(catalogue), unasked), nil
	}
	var chosen []check
	for _, name := range strings.Split(names, ",") {
		at := slices.IndexFunc(catalogue, func(c check) bool { return c.name == name })
		if at < 0 {
			return nil, fmt.Errorf("no check is called %q", name)
		}
		if reason := catalogue[at].unmet(target, lib); reason != "" {
			return nil, fmt.Errorf("%s: %s", name, reason)
		}
		chosen = append(chosen, catalogue[at])
	}
	return chosen, nil
}

// unmet says why a check means nothing here; "" if it does.
func (c check) unmet(target *Target, lib Library) string {
	switch {
	case c.needs.pins && !lib.Pins:
		return "clients of " + lib.Version + " know no pins"
	case c.needs.pins && !target.Pinned():
		return "the region is not pinned"
	case c.needs.appNames && lib.AppName == nil:
		return "clients of " + lib.Version + " are told no names"
	}
	return ""
}

func runAll(chosen []check, target *Target, lib Library) bool {
	allOK := true
	printed := json.NewEncoder(os.Stdout)
	for _, one := range chosen {
		result := one.verdict(target, lib)
		allOK = allOK && result.OK
		printed.Encode(result)
	}
	return allOK
}

func (c check) verdict(target *Target, lib Library) (result verdict) {
	ctx, cancel := context.WithTimeout(context.Background(), c.limit)
	defer cancel()
	t := &T{Target: target, ctx: ctx, lib: lib, monitor: netmon.NewStatic()}
	defer t.end()
	defer func() {
		result = verdict{c.name, true, t.detail()}
		if thrown := recover(); thrown != nil {
			failed, ok := thrown.(failure)
			if !ok {
				panic(thrown)
			}
			t.notes = slices.Insert(t.notes, 0, failed.text)
			result = verdict{c.name, false, t.detail()}
		}
	}()
	c.run(t)
	return result
}
