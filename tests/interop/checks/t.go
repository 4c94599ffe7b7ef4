package checks

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"tailscale.com/net/netmon"
	"tailscale.com/types/key"
)

// T is one running check: its time limit, what it must close, what it found.
//
// Its methods end the check when something is not as it must be, so that a
// check reads as the list of facts that it states. They belong to the
// goroutine that runs the check.
type T struct {
	*Target
	ctx     context.Context
	lib     Library
	monitor *netmon.Monitor
	closers []func()
	notes   []string
}

// failure is what a check panics with; anything else that panics is a bug.
type failure struct{ text string }

// Fatalf ends the check.
func (t *T) Fatalf(format string, args ...any) {
	panic(failure{fmt.Sprintf(format, args...)})
}

// Must ends the check if err is one, with what was being done.
func (t *T) Must(err error, doing string, args ...any) {
	if err != nil {
		t.Fatalf("%s: %v", fmt.Sprintf(doing, args...), err)
	}
}

// Notef keeps a finding for the report.
func (t *T) Notef(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// OnEnd has close called when the check ends, the latest first.
func (t *T) OnEnd(close func()) { t.closers = append(t.closers, close) }

// Eventually asks again until the answer is yes; what cannot be awaited as an
// event on a connection (a gauge, a departure seen by nobody) is awaited so.
func (t *T) Eventually(what string, limit time.Duration, ask func() bool) {
	deadline := time.Now().Add(limit)
	for !ask() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, limit)
		}
		select {
		case <-t.ctx.Done():
			t.Fatalf("%s: %v", what, t.ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Pause lets time pass that is itself part of the fact under test.
func (t *T) Pause(duration time.Duration) {
	select {
	case <-t.ctx.Done():
		t.Fatalf("pausing: %v", t.ctx.Err())
	case <-time.After(duration):
	}
}

// Address is where the node's DERP port is.
func (t *T) Address() string {
	node := t.region.Nodes[0]
	host := node.IPv4
	if host == "" {
		host = node.HostName
	}
	return net.JoinHostPort(host, fmt.Sprint(node.DERPPort))
}

func (t *T) end() {
	for _, close := range slices.Backward(t.closers) {
		close()
	}
}

func (t *T) detail() string { return strings.Join(t.notes, "; ") }

// stranger is a key that nobody has.
func stranger() key.NodePublic { return key.NewNode().Public() }

func logNothing(string, ...any) {}
