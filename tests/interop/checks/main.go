package checks

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"tailscale.com/net/netmon"
)

const (
	exitFailed = 1
	exitUsage  = 2
)

// verdict is one line of output.
type verdict struct {
	Name   string `json:"name"`
	Near   string `json:"from"`
	Far    string `json:"to"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// Main runs the checks that the command line asks for and exits.
func Main(lib Library) {
	region := flag.String("region", "", "`file` with the JSON document of derpctl demo")
	names := flag.String("run", "", "`names` of checks, comma-separated; all that apply if empty")
	from := flag.String("from", "", "`node` under test, where senders are; the first if empty")
	to := flag.String("to", "", "`node` where receivers are; the same if empty")
	everyPair := flag.Bool("every-pair", false, "run the checks over every ordered pair of nodes")
	relink := flag.Duration("relink", 2*time.Second, "`time` that a lost link may take to be back")
	together := flag.Bool("together", false, "run the pairs at the same time")
	list := flag.Bool("list", false, "print the names of all checks")
	flag.Parse()
	if *list {
		for _, one := range catalogue {
			fmt.Println(one.name)
		}
		return
	}
	document, err := Load(*region)
	exitIf(err)
	pairs := [][2]string{{*from, *to}}
	if *everyPair {
		pairs = document.pairs()
	}
	var results printer
	var group sync.WaitGroup
	for _, pair := range pairs {
		target, err := document.Target(pair[0], pair[1])
		exitIf(err)
		target.Relink = *relink
		chosen, err := choose(*names, target, lib, *everyPair)
		exitIf(err)
		group.Add(1)
		go func() {
			defer group.Done()
			results.runAll(chosen, target, lib)
		}()
		if !*together {
			group.Wait()
		}
	}
	group.Wait()
	if results.failed {
		os.Exit(exitFailed)
	}
}

func exitIf(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitUsage)
	}
}

// choose is the checks of these names, all that apply if there are none. One that
// means nothing for this target is an error, unless it does for others.
func choose(names string, target *Target, lib Library, forOthers bool) ([]check, error) {
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
		switch reason := catalogue[at].unmet(target, lib); {
		case reason == "":
			chosen = append(chosen, catalogue[at])
		case !forOthers:
			return nil, fmt.Errorf("%s: %s", name, reason)
		}
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
	case c.needs.apart && !target.Apart():
		return "it takes two nodes"
	case c.needs.region && len(target.Nodes) == 1:
		return "it takes a region of several nodes"
	}
	return ""
}

// printer prints verdicts, a line each, and remembers whether any was bad.
type printer struct {
	mu     sync.Mutex
	failed bool
}

func (p *printer) runAll(chosen []check, target *Target, lib Library) {
	for _, one := range chosen {
		p.print(one.verdict(target, lib))
	}
}

func (p *printer) print(result verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = p.failed || !result.OK
	json.NewEncoder(os.Stdout).Encode(result)
}

func (c check) verdict(target *Target, lib Library) (result verdict) {
	ctx, cancel := context.WithTimeout(context.Background(), c.limit)
	defer cancel()
	t := &T{Target: target, ctx: ctx, lib: lib, monitor: netmon.NewStatic()}
	defer t.end()
	defer func() {
		result = verdict{c.name, target.Node.Name, target.Far.Name, true, t.detail()}
		if thrown := recover(); thrown != nil {
			failed, ok := thrown.(failure)
			if !ok {
				panic(thrown)
			}
			t.notes = slices.Insert(t.notes, 0, failed.text)
			result.OK, result.Detail = false, t.detail()
		}
	}()
	c.run(t)
	return result
}
