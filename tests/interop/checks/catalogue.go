package checks

import "time"

// check is one fact about a relay.
type check struct {
	name  string
	run   func(*T)
	needs need
	limit time.Duration
}

// need is what must be so for a check to mean anything.
type need struct {
	pins     bool // the region is pinned, and this client knows pins
	appNames bool // this client tells names, and is told names
	apart    bool // the pair is of two nodes
	region   bool // there are several nodes; it is about all of them
	asked    bool // runs only when asked for by name
}

const ordinary = 30 * time.Second

var catalogue = []check{
	{"connect", connect, need{}, ordinary},
	{"pin-right", pinRight, need{pins: true}, ordinary},
	{"pin-wrong", pinWrong, need{pins: true}, ordinary},
	{"pin-upper-case", pinUpperCase, need{pins: true}, ordinary},
	{"fast-start", fastStart, need{}, ordinary},
	{"no-fast-start", noFastStart, need{}, ordinary},
	{"tls-1.2", oldTLS, need{}, ordinary},
	{"latency-check", latencyCheck, need{}, ordinary},
	{"captive-portal", captivePortal, need{}, ordinary},
	{"stun", stunAnswer, need{}, ordinary},
	{"websocket", webSocket, need{}, ordinary},
	{"sizes", sizes, need{}, ordinary},
	{"to-oneself", toOneself, need{}, ordinary},
	{"order-10000", order(10_000), need{}, ordinary},
	{"order-2000", order(2_000), need{}, ordinary},
	{"bulk-600", bulk(600), need{}, ordinary},
	{"bulk-200", bulk(200), need{}, ordinary},
	{"ping", ping, need{}, ordinary},
	{"duplicate-newest", newestIsActive, need{}, ordinary},
	{"duplicate-speaker", speakerIsActive, need{}, ordinary},
	{"duplicate-survivor", survivorTakesOver, need{}, ordinary},
	{"duplicate-bystanders", duplicatesDisturbNobody, need{}, ordinary},
	{"peer-gone", peerGone, need{}, ordinary},
	{"not-here", notHere, need{}, ordinary},
	{"left-not-here", leftNotHere, need{}, ordinary},
	{"note-preferred", notePreferred, need{}, ordinary},
	{"prober", proberIsServed, need{}, ordinary},
	{"watch-flood", watchFlood, need{}, ordinary},
	{"presence-fast", presenceIsFast, need{}, ordinary},
	{"probe", probed, need{}, ordinary},
	{"presence-per-connection", presencePerConnection, need{}, ordinary},
	{"presence-flags", presenceFlags, need{}, ordinary},
	{"app-name", appName, need{appNames: true}, ordinary},
	{"app-name-limits", appNameLimits, need{}, ordinary},
	{"forward", forward, need{}, ordinary},
	{"close-peer", closePeer, need{}, ordinary},
	{"no-mesh-right", noMeshRight, need{}, ordinary},
	{"malformed", malformed, need{}, ordinary},
	{"one-hop", oneHop, need{apart: true}, ordinary},
	{"watch-locals", watchLocals, need{apart: true}, ordinary},
	{"duplicate-apart", duplicatesApart, need{apart: true}, ordinary},
	{"close-peer-apart", closePeerApart, need{apart: true}, ordinary},
	{"link-cut", linkCut, need{apart: true}, ordinary},
	{"last-place", lastPlace, need{region: true}, ordinary},
	{"moves-50", moves, need{region: true}, ordinary},
	{"node-dies", nodeDies, need{apart: true, asked: true}, ordinary},
	{"one-way", oneWay, need{apart: true, asked: true}, ordinary},
	{"coming-and-going", comingAndGoing, need{region: true, asked: true}, 120 * time.Second},
	{"roaming", roaming, need{region: true, asked: true}, ordinary},
	{"keepalive", keepAlive, need{asked: true}, 90 * time.Second},
	{"refused", refused, need{asked: true}, ordinary},
	{"websocket-limit", webSocketLimit, need{asked: true}, ordinary},
}
